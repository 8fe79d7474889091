# shows: two workers but only one None; the second worker waits for ever
# verdict: deadlock
# plain: hang
# report: "worker-[12]" @gets
# expect: main is done
# exit: 0
import queue
import threading

q = queue.SimpleQueue()


def work():
    while q.get() is not None:  # @gets
        pass


workers = [threading.Thread(target=work, name=f"worker-{n}") for n in (1, 2)]
for worker in workers:
    worker.start()
for i in range(10):
    q.put(i)
q.put(None)
for worker in workers:
    worker.join()
print("main is done")
