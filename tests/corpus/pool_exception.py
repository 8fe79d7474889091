# shows: an exception in a task comes out of result() with the line where it was raised
# verdict: error
# plain: error
# expect: return 1 / n
# expect: ZeroDivisionError: division by zero
# exit: 1
from concurrent.futures import ThreadPoolExecutor


def inverse(n):
    return 1 / n


with ThreadPoolExecutor(max_workers=2) as pool:
    good, bad = pool.submit(inverse, 4), pool.submit(inverse, 0)
print("good", good.result())
print("bad", bad.result())
