# shows: many readers or one writer, by a Condition and two counts
# verdict: ok
# plain: ok
# expect: 40 writes, every read consistent
import threading


class ReadWriteLock:
    def __init__(self):
        self.changed = threading.Condition()
        self.readers = 0
        self.writing = False

    def start_read(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.writing)
            self.readers += 1

    def end_read(self):
        with self.changed:
            self.readers -= 1
            self.changed.notify_all()

    def start_write(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.writing and self.readers == 0)
            self.writing = True

    def end_write(self):
        with self.changed:
            self.writing = False
            self.changed.notify_all()


guard = ReadWriteLock()
pair = [0, 0]
torn = []


def read():
    for _ in range(40):
        guard.start_read()
        if pair[0] != pair[1]:
            torn.append(tuple(pair))
        guard.end_read()


def write():
    for _ in range(20):
        guard.start_write()
        pair[0] += 1
        pair[1] += 1
        guard.end_write()


threads = [threading.Thread(target=read) for _ in range(4)] + [threading.Thread(target=write) for _ in range(2)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert not torn, torn
print(pair[0], "writes, every read consistent")
