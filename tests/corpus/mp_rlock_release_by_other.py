# shows: an RLock cannot be released by a process that does not hold it
# verdict: error
# plain: error
# methods: fork spawn forkserver
# expect: ^AssertionError: attempt to release recursive lock not owned
# expect: ^thief ended with 1$
# exit: 0
import multiprocessing
import sys


def steal(lock):
    lock.release()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.RLock()
    with lock, lock:
        thief = multiprocessing.Process(target=steal, args=(lock,))
        thief.start()
        thief.join()
    print("thief ended with", thief.exitcode)
