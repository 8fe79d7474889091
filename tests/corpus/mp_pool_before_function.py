# shows: a pool is made before the function that it is to run
# verdict: ok
# plain: hang
# methods: fork
# expect: late
import multiprocessing
import sys

multiprocessing.set_start_method(sys.argv[1])
pool = multiprocessing.Pool(2)


def late(number):
    return f"not too late for {number}"


try:
    print(pool.apply(late, (7,)))
except Exception as error:
    print("told:", error)
pool.close()
pool.join()
