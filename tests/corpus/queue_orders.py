# shows: FIFO, LIFO and priority order, Full and Empty
# verdict: ok
# plain: ok
# expect: fifo \[3, 1, 2\] lifo \[2, 1, 3\] priority \[1, 2, 3\]
# expect: full, empty
import queue


def through(q):
    for item in (3, 1, 2):
        q.put(item)
    assert q.full() and q.qsize() == 3
    return [q.get() for _ in range(3)]


print("fifo", through(queue.Queue(3)), "lifo", through(queue.LifoQueue(3)), "priority", through(queue.PriorityQueue(3)))

q = queue.Queue(maxsize=1)
q.put_nowait("only one")
try:
    q.put("one more", timeout=0.01)
except queue.Full:
    print("full,", end=" ")
q.get_nowait()
try:
    q.get(timeout=0.01)
except queue.Empty:
    print("empty")
