# shows: a long chain of locks and joins whose last link is only busy elsewhere
# verdict: ok
# plain: ok
# expect: chain done
import threading
import time

locks = [threading.Lock() for _ in range(6)]
ready = [threading.Event() for _ in range(6)]


def link(n):
    with locks[n]:
        ready[n].set()
        if n == 0:
            time.sleep(0.3)
        else:
            ready[n - 1].wait()
            with locks[n - 1]:
                pass


threads = [threading.Thread(target=link, args=(n,)) for n in range(6)]
for t in threads:
    t.start()
with locks[5]:
    pass
for t in threads:
    t.join()
print("chain done")
