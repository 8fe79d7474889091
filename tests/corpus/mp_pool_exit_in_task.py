# shows: a task calls sys.exit(); the pool goes on and the caller learns of it
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^told: SystemExit$
# expect: ^the others: \[0, 1, 4\]$
import multiprocessing
import sys


def square(number):
    if number == 3:
        sys.exit("three is too much")
    return number * number


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        others = [pool.apply_async(square, (number,)) for number in range(3)]
        try:
            pool.apply(square, (3,))
        except SystemExit as error:
            print("told:", type(error).__name__)
        print("the others:", [one.get() for one in others])
