# shows: three workers, three tasks that each wait for a subtask; nobody is left to do one
# verdict: deadlock
# plain: hang
# report: "busy_[012]" @inner
# exit: 1
import threading
from concurrent.futures import ThreadPoolExecutor

all_busy = threading.Barrier(3)


def outer_task(n):
    all_busy.wait()
    return pool.submit(pow, 2, n).result()  # @inner


with ThreadPoolExecutor(max_workers=3, thread_name_prefix="busy") as pool:
    print(list(pool.map(outer_task, range(3))))
