# shows: connection.wait over pipes and the sentinels of processes tells what is ready
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^got \[0, 1, 2\], 3 ends of pipes, 3 ends of processes$
import multiprocessing
import sys
from multiprocessing.connection import wait


def send_one(number, out_pipe):
    out_pipe.send(number)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    readers, processes = [], []
    for number in range(3):
        reader, writer = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=send_one, args=(number, writer))
        process.start()
        writer.close()
        readers.append(reader)
        processes.append(process)

    got, pipe_ends, process_ends = [], 0, 0
    waiting = [*readers, *(process.sentinel for process in processes)]
    assert wait(waiting[:0], timeout=0) == []
    while waiting:
        for ready in wait(waiting):
            if isinstance(ready, int):
                process_ends += 1
                waiting.remove(ready)
                continue
            try:
                got.append(ready.recv())
            except EOFError:
                pipe_ends += 1
                waiting.remove(ready)
    for process in processes:
        process.join()
    print(f"got {sorted(got)}, {pipe_ends} ends of pipes, {process_ends} ends of processes")
