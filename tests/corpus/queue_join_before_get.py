# shows: main joins the producer before it takes what the producer put; the queue is bounded
# verdict: deadlock
# plain: hang
# report: "producer" @puts "MainThread" @joins
# expect: took \[0, 1, 2\]
# exit: 0
import queue
import threading

q = queue.Queue(maxsize=3)


def produce():
    for i in range(10):
        q.put(i)  # @puts


producer = threading.Thread(target=produce, name="producer")
producer.start()
producer.join()  # @joins
print("took", [q.get() for _ in range(q.qsize())])
