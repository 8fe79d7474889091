# shows: the parent holds a lock and joins a child that needs it
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "MainProcess" "child" @holds @joins @waits
# reports: 1-2
import multiprocessing
import sys


def work(lock):
    with lock:  # @waits
        pass


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.Lock()
    child = multiprocessing.Process(target=work, args=(lock,), name="child")
    with lock:  # @holds
        child.start()
        child.join()  # @joins
