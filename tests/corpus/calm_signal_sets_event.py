# shows: main, the only thread, waits for an event that a signal handler sets
# verdict: ok
# plain: ok
# expect: the alarm rang
import signal
import threading

rang = threading.Event()
signal.signal(signal.SIGALRM, lambda signum, frame: rang.set())
signal.setitimer(signal.ITIMER_REAL, 0.1)
rang.wait()
print("the alarm rang")
