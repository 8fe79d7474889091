# shows: a process takes a Lock that it holds already
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "worker" @outer @inner
# expect: ^worker ended with 1$
# exit: 0
import multiprocessing
import sys


def take_twice(lock):
    with lock:  # @outer
        with lock:  # @inner
            print("never reached")


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.Lock()
    worker = multiprocessing.Process(target=take_twice, args=(lock,), name="worker")
    worker.start()
    worker.join()
    print("worker ended with", worker.exitcode)
