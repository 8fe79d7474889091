# shows: the main process and a child take two locks in opposite order, one of them an RLock, by acquire()
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "MainProcess" "child" @main_waits @child_waits
import multiprocessing
import sys


def work(first, second, both_hold):
    second.acquire()
    try:
        both_hold.wait()
        first.acquire()  # @child_waits
        first.release()
    finally:
        second.release()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    first, second = multiprocessing.Lock(), multiprocessing.RLock()
    both_hold = multiprocessing.Barrier(2)
    child = multiprocessing.Process(target=work, args=(first, second, both_hold), name="child")
    child.start()
    first.acquire()
    try:
        both_hold.wait()
        second.acquire()  # @main_waits
        second.release()
    finally:
        first.release()
    child.join()
