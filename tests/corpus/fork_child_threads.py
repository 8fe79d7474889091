# shows: fork while other threads sleep in every kind of wait; the child's own threads work
# verdict: ok
# plain: ok
# expect: child ended with 0
import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

go = threading.Event()
tickets = queue.Queue()
asleep = [
    threading.Thread(target=go.wait),
    threading.Thread(target=tickets.get),
]
for t in asleep:
    t.start()
pid = os.fork()
if pid == 0:
    q = queue.Queue()
    ready = threading.Event()
    threads = [threading.Thread(target=q.put, args=(n,)) for n in range(4)]
    threads.append(threading.Thread(target=ready.set))
    for t in threads:
        t.start()
    ready.wait()
    got = sorted(q.get() for _ in range(4))
    for t in threads:
        t.join()
    with ThreadPoolExecutor(2) as pool:
        squares = list(pool.map(pow, got, (2, 2, 2, 2)))
    os._exit(0 if squares == [0, 1, 4, 9] else 3)
_, status = os.waitpid(pid, 0)
go.set()
tickets.put("home")
for t in asleep:
    t.join()
print("child ended with", os.waitstatus_to_exitcode(status))
