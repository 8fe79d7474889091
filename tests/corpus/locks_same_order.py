# shows: two threads take two locks in the same order, many times
# verdict: ok
# plain: ok
# expect: both done
import threading

red = threading.Lock()
blue = threading.Lock()


def take_both():
    for _ in range(2000):
        with red, blue:
            pass


threads = [threading.Thread(target=take_both) for _ in range(2)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("both done")
