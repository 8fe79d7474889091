# shows: sending into a pipe whose reader has ended is a BrokenPipeError
# verdict: error
# plain: error
# methods: fork spawn forkserver
# expect: ^BrokenPipeError
# exit: 1
import multiprocessing
import sys


def read_one(in_pipe):
    print("got", in_pipe.recv())


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    in_pipe, out_pipe = multiprocessing.Pipe(False)
    reader = multiprocessing.Process(target=read_one, args=(in_pipe,))
    reader.start()
    in_pipe.close()
    out_pipe.send("one")
    reader.join()
    out_pipe.send("two")
