# shows: reading a counter while another thread counts gives any value; the join comes after the read
# verdict: ok
# plain: ok
# expect: three snapshots within bounds
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
    counting = threading.Thread(target=count_up, args=[counter])
    counting.start()
    snapshot = counter.get_count()
    counting.join()
    assert counter.get_count() == 50_000
    return snapshot


trial1 = conduct_trial()
trial2 = conduct_trial()
trial3 = conduct_trial()
print(trial1, trial2, trial3)
assert all(0 <= trial <= 50_000 for trial in (trial1, trial2, trial3))
print("three snapshots within bounds")
