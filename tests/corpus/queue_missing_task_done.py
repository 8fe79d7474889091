# shows: the consumer never calls task_done, so queue.join() never returns
# verdict: deadlock
# plain: hang
# report: "MainThread" @joins "consumer" @gets
# reports: 1-2
# exit: 1
import queue
import threading

q = queue.Queue()


def consume():
    while True:
        print("got", q.get())  # @gets


threading.Thread(target=consume, name="consumer", daemon=True).start()
for i in range(3):
    q.put(i)
q.join()  # @joins
print("never printed")
