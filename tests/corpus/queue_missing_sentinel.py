# shows: the consumer waits for a None that the producer forgot to send
# verdict: deadlock
# plain: hang
# report: "consumer" @gets
# expect: main is done
# exit: 0
import queue
import threading

q = queue.Queue()


def consume():
    while True:
        item = q.get()  # @gets
        if item is None:
            break
        print("got", item)


consumer = threading.Thread(target=consume, name="consumer")
consumer.start()
for i in range(3):
    q.put(i)
consumer.join()
print("main is done")
