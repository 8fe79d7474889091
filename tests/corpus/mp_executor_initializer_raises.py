# shows: the initializer of an executor raises in every worker
# verdict: error
# plain: error
# methods: fork spawn forkserver
# expect: no such table: numbers
# expect: BrokenProcessPool|WorkerDied|LookupError
# exit: 1
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor


def connect(table):
    raise LookupError(f"no such table: {table}")


def square(number):
    return number * number


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with ProcessPoolExecutor(2, initializer=connect, initargs=("numbers",)) as executor:
        print(executor.submit(square, 3).result())
