# shows: two timers that tick until an event is set, with the old name isSet
# verdict: ok
# plain: ok
# expect: (?s)tick.*leaves.*leaves
import threading
import time
import warnings

warnings.simplefilter("ignore", DeprecationWarning)  # isSet is the old spelling, and still used


def timer_func(n, event_object):
    while not event_object.isSet():
        print(f"{threading.current_thread().name} tick\n", end="")
        event_object.wait(n)
    print(f"{threading.current_thread().name} leaves\n", end="")


event_object = threading.Event()
t1 = threading.Timer(0.01, timer_func, (0.01, event_object))
t2 = threading.Timer(0.01, timer_func, (0.01, event_object))
t1.start()
t2.start()
for _ in range(3):
    print("main does something else")
    time.sleep(0.02)
event_object.set()
t1.join()
t2.join()
