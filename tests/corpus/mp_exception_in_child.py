# shows: an exception ends a child with code 1 and gives back its lock; the parent goes on
# verdict: error
# plain: error
# methods: fork spawn forkserver
# expect: ^Process clerk:$
# expect: ^KeyError: 'missing'$
# expect: ^clerk ended with 1, the lock is free$
# exit: 0
import multiprocessing
import sys


def work(lock):
    with lock:
        {}["missing"]


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.Lock()
    clerk = multiprocessing.Process(target=work, args=(lock,), name="clerk")
    clerk.start()
    clerk.join()
    with lock:
        print(f"clerk ended with {clerk.exitcode}, the lock is free")
