# shows: two counting threads that take a shared lock round each increment, joined in reverse order
# verdict: ok
# plain: ok
# expect: ^40000$
import threading


class Counter:
    def __init__(self):
        self.count = 0

    def increment(self):
        old_count = self.count
        self.count = old_count + 1


def count_up(counter, lock):
    for _ in range(20_000):
        lock.acquire()
        counter.increment()
        lock.release()


counter = Counter()
lock = threading.Lock()
thread1 = threading.Thread(target=count_up, args=[counter, lock])
thread2 = threading.Thread(target=count_up, args=[counter, lock])
thread1.start()
thread2.start()
thread2.join()
thread1.join()
print(counter.count)
