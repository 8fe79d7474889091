# shows: acquire(), then join of a thread that needs the lock
# verdict: deadlock
# plain: hang
# report: "MainThread" @takes @joins "worker" @waits
import threading

lock = threading.Lock()


def work():
    lock.acquire()  # @waits
    lock.release()


worker = threading.Thread(target=work, name="worker")
lock.acquire()  # @takes
worker.start()
try:
    worker.join()  # @joins
finally:
    lock.release()
