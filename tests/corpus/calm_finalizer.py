# shows: a finalizer that runs in the last awake thread releases the others
# verdict: ok
# plain: ok
# expect: finalizer opened the gate
import threading

gate = threading.Semaphore(0)


class Opener:
    def __del__(self):
        gate.release()


opener = Opener()
waiter = threading.Thread(target=gate.acquire)
waiter.start()
del opener
waiter.join()
print("finalizer opened the gate")
