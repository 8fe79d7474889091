# shows: the consumer keeps the master lock while it waits; the producer needs that lock to produce
# verdict: deadlock
# plain: hang
# report: "consumer" @consumer_holds @consumer_gets "producer" @producer_waits
# reports: 1-2
# expect: main is done
# exit: 0
import queue
import threading

q = queue.Queue()
master = threading.Lock()
consumer_runs = threading.Event()


def consume():
    with master:  # @consumer_holds
        consumer_runs.set()
        print("got", q.get())  # @consumer_gets


def produce():
    consumer_runs.wait()
    with master:  # @producer_waits
        q.put("item")


consumer = threading.Thread(target=consume, name="consumer")
producer = threading.Thread(target=produce, name="producer")
consumer.start()
producer.start()
consumer.join()
producer.join()
print("main is done")
