# shows: acquire() twice in the only thread
# verdict: deadlock
# plain: hang
# report: "MainThread" @holds @waits
# exit: 1
import threading

lock = threading.Lock()
lock.acquire()  # @holds
print("once")
lock.acquire()  # @waits
print("never printed")
