# shows: queue.join() when the two workers die one after the other, the last with work left
# verdict: deadlock
# plain: hang
# report: "MainThread" @joins
# expect: ZeroDivisionError
# exit: 1
import queue
import threading

q = queue.Queue()


def work():
    while True:
        print("inverse", 1 / q.get())
        q.task_done()


workers = [threading.Thread(target=work, name=f"worker-{n}") for n in (1, 2)]
for worker in workers:
    worker.start()
for number in (1, 2, 0, 4, 0, 5):
    q.put(number)
q.join()  # @joins
print("never printed")
