# shows: an endless consumer that is no daemon keeps the finished program alive
# verdict: deadlock
# plain: hang
# report: "consumer" @gets
# expect: main is done
# exit: 0
import queue
import threading

q = queue.Queue()


def consume():
    while True:
        q.get()  # @gets
        q.task_done()


threading.Thread(target=consume, name="consumer").start()
for i in range(10):
    q.put(i)
q.join()
print("main is done")
