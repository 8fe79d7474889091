# shows: q.put() inside `with q.mutex`, which put() needs itself
# verdict: deadlock
# plain: hang
# report: "MainThread" @holds @puts
# exit: 1
import queue

q = queue.Queue()
with q.mutex:  # @holds
    q.put("again")  # @puts
print("never printed")
