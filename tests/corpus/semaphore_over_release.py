# shows: a BoundedSemaphore refuses one release too many
# verdict: error
# plain: error
# expect: ValueError: Semaphore released too many times
# exit: 1
import threading

limit = threading.BoundedSemaphore(2)
with limit:
    limit.release()  # the `with` releases as well
