# shows: a timer function that starts the next timer, five times
# verdict: ok
# plain: ok
# expect: (?s)next is Thread-6.*leaves for good
import threading
import time

repeat = 5


def timer_func(n):
    global repeat
    if repeat > 0:
        repeat -= 1
        t = threading.Timer(n, timer_func, (n,))
        t.start()
        print(f"next is {t.name}")
    else:
        print(f"{threading.current_thread().name} leaves for good")


t = threading.Timer(0.01, timer_func, (0.01,))
t.start()
for _ in range(12):
    print("main does something else")
    time.sleep(0.01)
