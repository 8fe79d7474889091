# shows: one counting thread, joined before the count is read
# verdict: ok
# plain: ok
# expect: ^0$
# expect: ^100000$
import threading


class Counter:
    def __init__(self):
        self.count = 0

    def increment(self):
        self.count += 1

    def get_count(self):
        return self.count


def count_up(counter):
    for _ in range(100_000):
        counter.increment()


counter = Counter()
print(counter.get_count())
counting = threading.Thread(target=count_up, args=[counter])
counting.start()
counting.join()
print(counter.get_count())
