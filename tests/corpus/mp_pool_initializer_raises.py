# shows: the initializer of a pool raises in every worker
# verdict: ok
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: ^told: .*no such table
import multiprocessing
import sys


def connect(table):
    raise LookupError(f"no such table: {table}")


def square(number):
    return number * number


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    try:
        with multiprocessing.Pool(2, connect, ("numbers",)) as pool:
            print("WRONG:", pool.apply_async(square, (3,)).get(1.0))
    except multiprocessing.TimeoutError:
        print("WRONG: nothing heard for a second")
    except Exception as error:
        print("told:", error)
