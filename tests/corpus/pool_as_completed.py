# shows: pools of growing size, a set of futures each, results taken as they are completed
# verdict: ok
# plain: ok
# expect: workers 1: 1 result
# expect: workers 3: 3 results, every end after its start
import math
import time
from concurrent.futures import ThreadPoolExecutor, as_completed


def computing(x):
    start = time.time()
    x = 0
    y = 0.001
    while x < 10_000:
        y = math.cos(y)
        x = x + 1
    return [start, time.time()]


for workers in range(1, 4):
    result = []
    with ThreadPoolExecutor(max_workers=workers) as executor:
        futures = set()
        for idx in range(workers):
            future = executor.submit(computing, idx)
            futures.add(future)
        for future in as_completed(futures):
            result.append(future.result())
    assert all(start <= end for start, end in result)
    print(f"workers {workers}: {len(result)} results, every end after its start")
