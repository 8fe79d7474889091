# shows: main sleeps while a thread only just begins or has only just ended, hundreds of times
# verdict: ok
# plain: ok
# expect: 400 threads came and went
import threading

total = 0
total_lock = threading.Lock()


def come_and_go(arrived):
    global total
    with total_lock:
        total += 1
    arrived.set()


unjoined = []
for _ in range(200):
    arrived = threading.Event()
    joined = threading.Thread(target=come_and_go, args=(arrived,))
    joined.start()
    arrived.wait()
    joined.join()
    unjoined.append(threading.Thread(target=come_and_go, args=(arrived,)))
    unjoined[-1].start()
for t in unjoined:
    t.join()
print(total, "threads came and went")
