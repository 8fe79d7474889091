# shows: a plain Semaphore takes one release too many, and the limit is gone
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: 3 connections at once
import threading

limit = threading.Semaphore(2)
limit.release()
counts = threading.Lock()
connected = peak = 0
three_inside = threading.Barrier(3)


def connect():
    global connected, peak
    with limit:
        with counts:
            connected += 1
            peak = max(peak, connected)
        three_inside.wait()


clients = [threading.Thread(target=connect) for _ in range(3)]
for client in clients:
    client.start()
for client in clients:
    client.join()
print("fine" if peak <= 2 else f"WRONG: {peak} connections at once, the limit is 2")
