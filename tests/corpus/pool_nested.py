# shows: a task in a pool of one submits to its own pool and waits for the result
# verdict: deadlock
# plain: hang
# report: "solo_0" @inner "MainThread" @outer
# exit: 1
from concurrent.futures import ThreadPoolExecutor


def outer_task():
    return pool.submit(pow, 2, 10).result()  # @inner


with ThreadPoolExecutor(max_workers=1, thread_name_prefix="solo") as pool:
    print(pool.submit(outer_task).result())  # @outer
