# shows: callbacks of apply_async and starmap_async, for results and for errors
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^results: \[1, 2, 3, 4, 5\]$
# expect: ^errors: \['ZeroDivisionError'\]$
# expect: ^all at once: \[2, 1\]$
import multiprocessing
import sys


def divide(number, by):
    return number // by


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    results, errors, lists = [], [], []
    pool = multiprocessing.Pool(2)
    for number in range(1, 6):
        pool.apply_async(divide, (number, 1), callback=results.append, error_callback=errors.append)
    pool.apply_async(divide, (1, 0), callback=results.append, error_callback=errors.append)
    pool.starmap_async(divide, [(4, 2), (3, 3)], callback=lists.append)
    pool.close()
    pool.join()
    print("results:", sorted(results))
    print("errors:", [type(error).__name__ for error in errors])
    print("all at once:", *lists)
