# shows: two steps under one lock; the reader never sees the odd value between them
# verdict: ok
# plain: ok
# expect: every value even
import threading

lock = threading.Lock()
count = 0


def count_by_two():
    global count
    for _ in range(5000):
        with lock:
            count += 1
            count += 1


counting = threading.Thread(target=count_by_two)
counting.start()
snapshots = []
while counting.is_alive():
    with lock:
        snapshots.append(count)
counting.join()
if all(value % 2 == 0 for value in snapshots) and count == 10_000:
    print("every value even")
