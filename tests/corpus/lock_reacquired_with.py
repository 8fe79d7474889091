# shows: `with lock` inside `with lock`
# verdict: deadlock
# plain: hang
# report: "MainThread" @holds @waits
# exit: 1
import threading

lock = threading.Lock()
with lock:  # @holds
    print("once")
    with lock:  # @waits
        print("never printed")
