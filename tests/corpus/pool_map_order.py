# shows: map keeps the order of its input, an initializer prepares each worker
# verdict: ok
# plain: ok
# expect: \[0, 1, 4, 9, 16, 25\] prepared by mapper
import threading
from concurrent.futures import ThreadPoolExecutor

prepared = []


def prepare(label):
    prepared.append((label, threading.current_thread().name))


with ThreadPoolExecutor(2, "mapper", prepare, ("ready",)) as pool:
    squares = list(pool.map(lambda n: n * n, range(6), timeout=10))
assert all(label == "ready" and name.startswith("mapper_") for label, name in prepared)
print(squares, "prepared by", prepared[0][1].split("_")[0])
