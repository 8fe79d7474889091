# shows: an RLock can be released only by its owner
# verdict: error
# plain: error
# expect: RuntimeError: cannot release un-acquired lock
# exit: 0
import threading

lock = threading.RLock()
with lock:
    stranger = threading.Thread(target=lock.release, name="stranger")
    stranger.start()
    stranger.join()
