# shows: daemon threads asleep in every kind of wait when the program ends. That is normal
# verdict: ok
# plain: ok
# expect: main is done
# exit: 0
import queue
import threading

lock = threading.Lock()
lock.acquire()
condition = threading.Condition()


def wait_condition():
    with condition:
        condition.wait()


waits = [
    lock.acquire,
    wait_condition,
    threading.Event().wait,
    threading.Semaphore(0).acquire,
    threading.Barrier(2).wait,
    queue.Queue().get,
    queue.SimpleQueue().get,
    threading.main_thread().join,
]
started = threading.Barrier(len(waits) + 1)


def run(wait):
    started.wait()
    wait()


for wait in waits:
    threading.Thread(target=run, args=(wait,), daemon=True).start()
started.wait()
print("main is done")
