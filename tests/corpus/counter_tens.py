# shows: a lock round ten increments; the reader sees only multiples of ten
# verdict: ok
# plain: ok
# expect: only multiples of ten
import threading


class Counter:
    def __init__(self):
        self.count = 0

    def increment(self):
        self.count += 1

    def get_count(self):
        return self.count


def count_up(counter, lock):
    for _ in range(2000):
        lock.acquire()
        for _ in range(10):
            counter.increment()
        lock.release()


def conduct_trial():
    counter = Counter()
    lock = threading.Lock()
    counting = threading.Thread(target=count_up, args=[counter, lock])
    counting.start()
    lock.acquire()
    snapshot = counter.get_count()
    lock.release()
    counting.join()
    return snapshot


trials = [conduct_trial() for _ in range(3)]
print(trials)
if all(trial % 10 == 0 for trial in trials):
    print("only multiples of ten")
