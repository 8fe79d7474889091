# shows: the same order with a predicate, by a while loop and by wait_for: nothing is lost
# verdict: ok
# plain: ok
# expect: (?s)while saw it.*wait_for saw it
import threading

ready = threading.Condition()
is_ready = False


def wait_while():
    with ready:
        while not is_ready:
            ready.wait()
    print("while saw it")


def wait_for():
    with ready:
        ready.wait_for(lambda: is_ready)
    print("wait_for saw it")


with ready:
    is_ready = True
    ready.notify_all()
for wait in (wait_while, wait_for):
    waiter = threading.Thread(target=wait)
    waiter.start()
    waiter.join()
