# shows: four threads fight for three locks in the same order, with waits inside; no false alarm
# verdict: ok
# plain: ok
# expect: 400 turns
import threading
from time import sleep

locks = [threading.Lock(), threading.RLock(), threading.Condition()]
turns = 0


def work():
    global turns
    for _ in range(100):
        with locks[0]:
            sleep(0)
            with locks[1], locks[2]:
                sleep(0)
                turns += 1


threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(turns, "turns")
