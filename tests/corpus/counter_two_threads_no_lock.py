# shows: two counting threads without a lock; nothing forces a lost update, any total up to the sum is legal
# verdict: ok
# plain: ok
# expect: three totals between 1 and 100000
import threading


class Counter:
    def __init__(self):
        self.count = 0

    def increment(self):
        self.count += 1

    def get_count(self):
        return self.count


def count_up(counter):
    for _ in range(50_000):
        counter.increment()


def conduct_trial():
    counter = Counter()
    thread1 = threading.Thread(target=count_up, args=[counter])
    thread2 = threading.Thread(target=count_up, args=[counter])
    thread1.start()
    thread2.start()
    thread2.join()
    thread1.join()
    return counter.get_count()


trials = [conduct_trial() for _ in range(3)]
print(*trials)
assert all(1 <= trial <= 100_000 for trial in trials)
print("three totals between 1 and 100000")
