# shows: an exception in a task of a pool comes out of get(), with the traceback of the worker
# verdict: error
# plain: error
# methods: fork spawn forkserver
# expect: RemoteTraceback
# expect: ^ZeroDivisionError: division by zero$
# exit: 1
import multiprocessing
import sys


def invert(number):
    return 1 / number


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        print(pool.map(invert, [2, 1, 0]))
