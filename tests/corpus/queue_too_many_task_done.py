# shows: task_done called more often than there were items
# verdict: error
# plain: error
# expect: ValueError: task_done\(\) called too many times
# exit: 1
import queue

q = queue.Queue()
q.put("job")
q.get()
q.task_done()
q.task_done()
