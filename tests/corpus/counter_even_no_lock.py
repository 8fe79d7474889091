# shows: the writer holds the lock between its two steps, the reader looks without it
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: saw 1
import threading

lock = threading.Lock()
half_way = threading.Event()
looked = threading.Event()
count = 0


def count_by_two():
    global count
    with lock:
        count += 1
        half_way.set()
        looked.wait()
        count += 1


counting = threading.Thread(target=count_by_two)
counting.start()
half_way.wait()
snapshot = count
looked.set()
counting.join()
print("fine" if snapshot % 2 == 0 else f"WRONG: saw {snapshot}, which must be even")
