# shows: notify before anyone waits; the notification is lost and the waiter stays
# verdict: deadlock
# plain: hang
# report: "waiter" @waits
# expect: main is done
# exit: 0
import threading

ready = threading.Condition()
notified = threading.Event()


def wait():
    notified.wait()
    with ready:
        ready.wait()  # @waits
    print("never printed")


waiter = threading.Thread(target=wait, name="waiter")
waiter.start()
with ready:
    ready.notify()
notified.set()
waiter.join()
print("main is done")
