# shows: a signal handler that raises gets main out of a wait that would never end
# verdict: ok
# plain: ok
# expect: TimeoutError left the wait
import signal
import threading


def give_up(signum, frame):
    raise TimeoutError


signal.signal(signal.SIGALRM, give_up)
signal.setitimer(signal.ITIMER_REAL, 0.1)
lock = threading.Lock()
lock.acquire()
try:
    lock.acquire()
except TimeoutError as error:
    print(type(error).__name__, "left the wait")
