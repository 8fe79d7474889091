# shows: result() inside `with lock` of a task that needs the lock
# verdict: deadlock
# plain: hang
# report: "MainThread" @holds @result "solo_0" @task_waits
# exit: 1
import threading
from concurrent.futures import ThreadPoolExecutor

lock = threading.Lock()


def task():
    with lock:  # @task_waits
        return "done"


with ThreadPoolExecutor(max_workers=1, thread_name_prefix="solo") as pool:
    with lock:  # @holds
        print(pool.submit(task).result())  # @result
