# shows: bounded queue, three workers, one None for each of them
# verdict: ok
# plain: ok
# expect: sum of squares: 328350
import queue
import threading

jobs = queue.Queue(maxsize=4)
results = queue.SimpleQueue()


def work():
    while (job := jobs.get()) is not None:
        results.put(job * job)
    results.put(None)


workers = [threading.Thread(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
for job in range(100):
    jobs.put(job)
for _ in workers:
    jobs.put(None)

total = 0
finished = 0
while finished < len(workers):
    result = results.get()
    if result is None:
        finished += 1
    else:
        total += result
for worker in workers:
    worker.join()
print("sum of squares:", total)
