# shows: the consumer waits first and takes the master lock only to print
# verdict: ok
# plain: ok
# expect: got item
import queue
import threading

q = queue.Queue()
master = threading.Lock()


def consume():
    item = q.get()
    with master:
        print("got", item)


def produce():
    with master:
        q.put("item")


consumer = threading.Thread(target=consume)
producer = threading.Thread(target=produce)
consumer.start()
producer.start()
consumer.join()
producer.join()
