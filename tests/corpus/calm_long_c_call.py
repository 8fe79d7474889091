# shows: the holder of the lock is in a long call outside the interpreter, longer than the detector looks
# verdict: ok
# plain: ok
# expect: waited patiently
import threading
import time

lock = threading.Lock()
taken = threading.Event()


def hold():
    with lock:
        taken.set()
        time.sleep(0.6)


threading.Thread(target=hold).start()
taken.wait()
with lock:
    print("waited patiently")
