# shows: each task of a pool has a pool of its own
# verdict: ok
# plain: error
# methods: fork spawn forkserver
# expect: ^\[0, 5, 14\]$
import multiprocessing
import sys


def square(number):
    return number * number


def sum_of_squares(upto):
    with multiprocessing.Pool(2) as pool:
        return sum(pool.map(square, range(upto)))


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        print(pool.map(sum_of_squares, [1, 3, 4]))
