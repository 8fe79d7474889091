# shows: a semaphore limits the connections that are open at the same time
# verdict: ok
# plain: ok
# expect: served 12, never more than 3 at once
import threading
import time

limit = threading.BoundedSemaphore(value=3)
counts = threading.Lock()
connected = peak = served = 0


def connect():
    global connected, peak, served
    with limit:
        with counts:
            connected += 1
            peak = max(peak, connected)
        time.sleep(0.005)
        with counts:
            connected -= 1
            served += 1


clients = [threading.Thread(target=connect) for _ in range(12)]
for client in clients:
    client.start()
for client in clients:
    client.join()
assert 1 <= peak <= 3
print(f"served {served}, never more than 3 at once")
