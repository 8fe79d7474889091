# shows: a bounded buffer with one Condition and while loops
# verdict: ok
# plain: ok
# expect: took 300 in all
import threading


class Buffer:
    def __init__(self, size):
        self.size = size
        self.items = []
        self.changed = threading.Condition()

    def put(self, item):
        with self.changed:
            while len(self.items) == self.size:
                self.changed.wait()
            self.items.append(item)
            self.changed.notify_all()

    def take(self):
        with self.changed:
            while not self.items:
                self.changed.wait()
            self.changed.notify_all()
            return self.items.pop(0)


buffer = Buffer(2)
taken = []


def produce(start):
    for i in range(start, start + 100):
        buffer.put(i)


def consume():
    for _ in range(100):
        taken.append(buffer.take())


threads = [threading.Thread(target=produce, args=(start,)) for start in (0, 100, 200)]
threads += [threading.Thread(target=consume) for _ in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert sorted(taken) == list(range(300))
print("took", len(taken), "in all")
