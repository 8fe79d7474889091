# shows: an early return between acquire and release leaves the lock taken for ever
# verdict: deadlock
# plain: hang
# report: "MainThread" @takes
# exit: 1
import threading

seen = set()
seen_lock = threading.Lock()


def already_seen(item):
    seen_lock.acquire()  # @takes
    if item not in seen:
        seen.add(item)
        return False  # the release below is skipped
    seen_lock.release()
    return True


print("first:", already_seen("a"))
print("second:", already_seen("a"))
