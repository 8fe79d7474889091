# shows: put on a full queue that nobody empties
# verdict: deadlock
# plain: hang
# report: "MainThread" @puts
# exit: 1
import queue

q = queue.Queue(maxsize=2)
for i in range(3):
    q.put(i)  # @puts
print("never printed")
