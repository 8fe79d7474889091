# shows: a thread made by _thread, unknown to threading, wakes the rest
# verdict: ok
# plain: ok
# expect: woken by a raw thread
import _thread
import threading
import time

go = threading.Event()


def wake():
    time.sleep(0.1)
    go.set()


waiter = threading.Thread(target=go.wait)
waiter.start()
_thread.start_new_thread(wake, ())
waiter.join()
print("woken by a raw thread")
