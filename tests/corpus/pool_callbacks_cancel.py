# shows: a waiting task can be cancelled, a running one cannot; callbacks run for both
# verdict: ok
# plain: ok
# expect: cancelled: \[False, True\]
# expect: callbacks: 2
import threading
from concurrent.futures import ThreadPoolExecutor, wait

go = threading.Event()
running = threading.Event()
callbacks = []


def task():
    running.set()
    go.wait()


with ThreadPoolExecutor(max_workers=1) as pool:
    futures = [pool.submit(task), pool.submit(task)]
    for future in futures:
        future.add_done_callback(callbacks.append)
    running.wait()
    print("cancelled:", [future.cancel() for future in futures])
    go.set()
    done, not_done = wait(futures)
assert not not_done and len(done) == 2
print("callbacks:", len(callbacks))
