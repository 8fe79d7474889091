# shows: a queue emptied through its public mutex and deque
# verdict: ok
# plain: ok
# expect: left: 0, then \['fresh'\]
import queue

q = queue.Queue()
for i in range(5):
    q.put(i)
with q.mutex:
    q.queue.clear()
    q.unfinished_tasks = 0
    q.all_tasks_done.notify_all()
q.join()
print("left:", q.qsize(), end=", then ")
q.put("fresh")
with q.mutex:
    print(list(q.queue))
