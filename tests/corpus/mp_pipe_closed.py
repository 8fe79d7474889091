# shows: the producer closes its end instead of sending a None; the consumer takes what is there, then gets EOFError
# verdict: error
# plain: error
# methods: fork spawn forkserver
# expect: (?s)got an item: 0$.*got an item: 4$
# expect: ^EOFError
# expect: ^consumer ended with 1$
# exit: 0
import multiprocessing
import sys


def consume(in_pipe, out_pipe):
    out_pipe.close()  # as long as anybody has it open there is no end
    while True:
        print("got an item:", in_pipe.recv(), flush=True)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    in_pipe, out_pipe = multiprocessing.Pipe(False)
    consumer = multiprocessing.Process(target=consume, args=(in_pipe, out_pipe))
    consumer.start()
    in_pipe.close()
    for item in range(5):
        out_pipe.send(item)
    out_pipe.close()
    consumer.join()
    print("consumer ended with", consumer.exitcode)
