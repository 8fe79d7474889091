# shows: two processes share a duplex pipe and both receive first
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "MainProcess" "other" @receives
# reports: 1-2
import multiprocessing
import sys


def exchange(in_pipe, out_pipe):
    item = in_pipe.recv()  # @receives
    print("got an item:", item)
    out_pipe.send(item + 1)


def create_deadlock():
    pipe = multiprocessing.Pipe()
    other = multiprocessing.Process(target=exchange, args=(pipe[0], pipe[1]), name="other")
    other.start()
    exchange(pipe[1], pipe[0])


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    create_deadlock()
