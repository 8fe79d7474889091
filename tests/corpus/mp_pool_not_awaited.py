# shows: results of a pool are waited for one by one; close() and join() end it
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^\[0, 1, 3, 6, 10, 15\]$
import multiprocessing
import sys
import time


def add_up(n, m):
    time.sleep(0.01)
    return sum(range(min(n, m), max(n, m)))


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    pool = multiprocessing.Pool(2)
    results = [pool.apply_async(add_up, args=(n + 1, 0)) for n in range(6)]
    pool.close()
    print([result.get() for result in results])
    pool.join()
