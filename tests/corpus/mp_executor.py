# shows: a ProcessPoolExecutor: submit, as_completed, map, an exception, for 1 and 2 workers
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^1 workers: 1 results, map \[0, 1, 4\], ZeroDivisionError$
# expect: ^2 workers: 2 results, map \[0, 1, 4\], ZeroDivisionError$
import math
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed


def computing(x):
    a = time.time()
    x, y = 0, 0.001
    while x < 20_000:
        y = math.cos(y)
        x = x + 1
    return [a, time.time()]


def square(n):
    return n * n


def invert(n):
    return 1 / n


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    for workers in (1, 2):
        result = []
        with ProcessPoolExecutor(max_workers=workers) as executor:
            futures = {executor.submit(computing, n) for n in range(workers)}
            for future in as_completed(futures):
                result.append(future.result())
            squares = list(executor.map(square, range(3)))
            error = executor.submit(invert, 0).exception()
        assert all(begin <= end for begin, end in result)
        print(f"{workers} workers: {len(result)} results, map {squares}, {type(error).__name__}")
