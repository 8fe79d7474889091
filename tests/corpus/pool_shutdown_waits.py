# shows: the end of `with ThreadPoolExecutor` waits for a task that waits for an event set only afterwards
# verdict: deadlock
# plain: hang
# report: "solo_0" @task_waits "MainThread"
# expect: go is set
# exit: 1
import threading
from concurrent.futures import ThreadPoolExecutor

go = threading.Event()


def task():
    go.wait()  # @task_waits


with ThreadPoolExecutor(max_workers=1, thread_name_prefix="solo") as pool:
    future = pool.submit(task)
go.set()
print("go is set")
future.result()
