# shows: a Timer with a tuple of arguments runs its function once, later
# verdict: ok
# plain: ok
# expect: (?s)alive before: True.*hello\n.*hello\n.*hello\n.*alive after: False
import threading
from datetime import datetime


def timer_func(n):
    print(f"thread starts: {datetime.now()}")
    for _ in range(n):
        print(f"{threading.current_thread().name}, hello")


t = threading.Timer(0.05, timer_func, (3,))
print(f"timer activated: {datetime.now()}")
t.start()
print("alive before:", t.is_alive())
t.join()
print("alive after:", t.is_alive())
