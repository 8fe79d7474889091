# shows: two counting threads whose increment() locks itself; always the full sum
# verdict: ok
# plain: ok
# expect: ^40000 40000 40000$
import threading


class Counter:
    def __init__(self):
        self.count = 0
        self.lock = threading.Lock()

    def increment(self):
        self.lock.acquire()
        old_count = self.count
        self.count = old_count + 1
        self.lock.release()

    def get_count(self):
        return self.count


def count_up(counter):
    for _ in range(20_000):
        counter.increment()


def conduct_trial():
    counter = Counter()
    thread1 = threading.Thread(target=count_up, args=[counter])
    thread2 = threading.Thread(target=count_up, args=[counter])
    thread1.start()
    thread2.start()
    thread1.join()
    thread2.join()
    return counter.get_count()


trial1 = conduct_trial()
trial2 = conduct_trial()
trial3 = conduct_trial()
print(trial1, trial2, trial3)
