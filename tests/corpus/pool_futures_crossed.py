# shows: two tasks that wait for each other's future
# verdict: deadlock
# plain: hang
# report: "pair_0" "pair_1" @waits
# exit: 1
import threading
from concurrent.futures import ThreadPoolExecutor

futures = {}
both_submitted = threading.Event()


def need(other):
    both_submitted.wait()
    return futures[other].result()  # @waits


with ThreadPoolExecutor(max_workers=2, thread_name_prefix="pair") as pool:
    futures["a"] = pool.submit(need, "b")
    futures["b"] = pool.submit(need, "a")
    both_submitted.set()
print(futures["a"].result())
