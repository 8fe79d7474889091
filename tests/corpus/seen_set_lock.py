# shows: check and add under one lock, once by acquire and release, once by `with`
# verdict: ok
# plain: ok
# expect: each of 500 visited once, by both forms
import threading


class AcquireSeen:
    def __init__(self):
        self.seen = set()
        self.lock = threading.Lock()

    def already_seen(self, item):
        self.lock.acquire()
        result = True
        if item not in self.seen:
            self.seen.add(item)
            result = False
        self.lock.release()
        return result


class WithSeen(AcquireSeen):
    def already_seen(self, item):
        with self.lock:
            if item not in self.seen:
                self.seen.add(item)
                return False
            return True


def crawl(seen, visited):
    for item in range(500):
        if not seen.already_seen(item):
            visited.append(item)


for seen in (AcquireSeen(), WithSeen()):
    visited = []
    threads = [threading.Thread(target=crawl, args=(seen, visited)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(visited) == list(range(500)), visited
print("each of 500 visited once, by both forms")
