# shows: a signal handler takes the lock that the interrupted code holds
# verdict: deadlock
# plain: hang
# report: "MainThread" @holds @waits
# exit: 1
import signal
import threading

lock = threading.Lock()


def handler(signum, frame):
    with lock:  # @waits
        print("never printed")


signal.signal(signal.SIGUSR1, handler)
with lock:  # @holds
    signal.raise_signal(signal.SIGUSR1)
    print("never printed either")
