# shows: a lambda and a closure are given to a pool
# verdict: ok
# plain: error
# methods: fork spawn forkserver
# expect: ^\[1, 2, 3\] \[10, 20, 30\]$
import multiprocessing
import sys


def times(factor):
    def multiply(number):
        return number * factor

    return multiply


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        print(pool.map(lambda number: number + 1, range(3)), pool.map(times(10), [1, 2, 3]))
