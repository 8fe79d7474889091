# shows: release of a lock that nobody holds
# verdict: error
# plain: error
# expect: RuntimeError: release unlocked lock
# exit: 1
import threading

threading.Lock().release()
