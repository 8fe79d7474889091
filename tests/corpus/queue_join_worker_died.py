# shows: queue.join() after the only worker died between get and task_done
# verdict: deadlock
# plain: hang
# report: "MainThread" @joins
# expect: ValueError: invalid literal
# exit: 1
import queue
import threading

q = queue.Queue()


def work():
    while True:
        print("number", int(q.get()))
        q.task_done()


threading.Thread(target=work, name="worker", daemon=True).start()
for text in ("1", "2", "three", "4"):
    q.put(text)
q.join()  # @joins
print("never printed")
