# shows: a child ends by an exception between acquire() and release(); the parent wants the lock
# verdict: error
# plain: hang
# methods: fork spawn forkserver
# expect: ^KeyError: 'missing'$
# expect: OwnerDied
# exit: 1
import multiprocessing
import sys


def work(lock):
    lock.acquire()
    {}["missing"]
    lock.release()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.Lock()
    child = multiprocessing.Process(target=work, args=(lock,))
    child.start()
    child.join()
    lock.acquire()
