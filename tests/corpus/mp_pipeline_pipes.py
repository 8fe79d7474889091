# shows: a pipeline of processes joined by pipes; each stage ends when the one before it has closed its end
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^items of 3 stages: \[3, 4, 5, 6, 7\]$
import multiprocessing
import sys


def add_one(source, sink, others):
    for end in others:
        end.close()
    try:
        while True:
            sink.send(source.recv() + 1)
    except EOFError:
        sink.close()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    source, head = multiprocessing.Pipe(duplex=False)
    stages = []
    for _ in range(3):
        next_source, sink = multiprocessing.Pipe(duplex=False)
        stage = multiprocessing.Process(target=add_one, args=(source, sink, [head, next_source]))
        stage.start()
        source.close()
        sink.close()
        source = next_source
        stages.append(stage)
    for item in range(5):
        head.send(item)
    head.close()
    items = []
    try:
        while True:
            items.append(source.recv())
    except EOFError:
        print(f"items of {len(stages)} stages:", items)
    for stage in stages:
        stage.join()
