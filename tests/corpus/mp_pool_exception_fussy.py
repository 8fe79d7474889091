# shows: the exception of a task has an `__init__` with two arguments, so it cannot be rebuilt
# verdict: error
# plain: hang
# methods: fork spawn forkserver
# expect: Overdrawn
# expect: RemoteError
# expect: only 3 left
# exit: 1
import multiprocessing
import sys


class Overdrawn(Exception):
    def __init__(self, amount, left):
        super().__init__(f"{amount} wanted, only {left} left")


def take(amount):
    raise Overdrawn(amount, 3)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        print(pool.apply(take, (5,)))
