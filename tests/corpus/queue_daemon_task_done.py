# shows: an endless daemon consumer with task_done; main leaves after queue.join()
# verdict: ok
# plain: ok
# expect: (?s)got an item: 0\n.*got an item: 9\n.*all handled
import threading
from queue import Queue

queue = Queue()


def consume():
    while True:
        print("got an item:", queue.get())
        queue.task_done()


def produce():
    consumer = threading.Thread(target=consume, args=())
    consumer.daemon = True
    consumer.start()
    for i in range(10):
        queue.put(i)
    queue.join()
    print("all handled")


produce()
