# shows: one of two parties of a barrier is killed before it comes; the other one waits for it
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "MainProcess" @waits
import multiprocessing
import os
import signal
import sys


def die_first(barrier):
    os.kill(os.getpid(), signal.SIGKILL)
    barrier.wait()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    barrier = multiprocessing.Barrier(2)
    worker = multiprocessing.Process(target=die_first, args=(barrier,), name="worker")
    worker.start()
    barrier.wait()  # @waits
