# shows: two threads find the queue not empty, both get, but there is one item only
# verdict: deadlock
# plain: hang
# report: "taker-[12]" @gets
# expect: got the only item
# expect: main is done
# exit: 0
import queue
import threading

q = queue.Queue()
q.put("the only item")
both_checked = threading.Barrier(2)


def take():
    if not q.empty():
        both_checked.wait()
        print("got", q.get())  # @gets


takers = [threading.Thread(target=take, name=f"taker-{n}") for n in (1, 2)]
for taker in takers:
    taker.start()
for taker in takers:
    taker.join()
print("main is done")
