# shows: work that computes, one after the other and in threads; the results are the same
# verdict: ok
# plain: ok
# expect: (?s)test computing.*serial execution: .*multithreading: .*same results
import math
import threading
import time


def computing(results):
    x = 0
    y = 0.001
    while x < 30_000:
        y = math.cos(y)
        x = x + 1
    results.append(y)


if __name__ == "__main__":
    workers = 4
    print("{} test {} {}".format("-" * 10, computing.__name__, "-" * 10))
    serial, threaded = [], []
    start_time = time.time()
    for _ in range(workers):
        computing(serial)
    print(f"serial execution: {time.time() - start_time:.3f}")
    start_time = time.time()
    threads = [threading.Thread(target=computing, args=(threaded,)) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"execution time of multithreading: {time.time() - start_time:.3f}")
    assert serial == threaded
    print("same results")
