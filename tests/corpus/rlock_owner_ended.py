# shows: a thread ends without releasing its RLock; two others want it
# verdict: deadlock
# plain: hang
# report: "MainThread" @takes @waits
# reports: 1-2
# exit: 1
import threading

lock = threading.RLock()


def take_and_leave():
    lock.acquire()  # @takes


keeper = threading.Thread(target=take_and_leave, name="keeper")
keeper.start()
keeper.join()


def want():
    lock.acquire()  # @waits


threading.Thread(target=want, name="hopeful").start()
want()
