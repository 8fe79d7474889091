# shows: the only writer of a pipe is killed between two items; the reader gets the first, then EOFError
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^got 0, then the end$
import multiprocessing
import os
import signal
import sys


def write(out_pipe):
    out_pipe.send(0)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    in_pipe, out_pipe = multiprocessing.Pipe(False)
    writer = multiprocessing.Process(target=write, args=(out_pipe,))
    writer.start()
    out_pipe.close()
    first = in_pipe.recv()
    try:
        print("WRONG: got", in_pipe.recv())
    except EOFError:
        print(f"got {first}, then the end")
