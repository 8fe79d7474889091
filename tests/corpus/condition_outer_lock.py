# shows: Condition.wait gives back its own lock only; an outer lock is kept and blocks the notifier
# verdict: deadlock
# plain: hang
# report: "consumer" @consumer_holds @consumer_waits "producer" @producer_waits
# reports: 1-2
# expect: main is done
# exit: 0
import threading

outer = threading.Lock()
changed = threading.Condition()
outer_taken = threading.Event()
items = []


def consume():
    with outer:  # @consumer_holds
        outer_taken.set()
        with changed:
            while not items:
                changed.wait()  # @consumer_waits


def produce():
    outer_taken.wait()
    with outer:  # @producer_waits
        with changed:
            items.append("item")
            changed.notify()


consumer = threading.Thread(target=consume, name="consumer")
producer = threading.Thread(target=produce, name="producer")
consumer.start()
producer.start()
consumer.join()
producer.join()
print("main is done")
