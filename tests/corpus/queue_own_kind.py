# shows: a queue class of one's own through _init, _qsize, _put and _get
# verdict: ok
# plain: ok
# expect: unique items: \['a', 'b', 'c'\]
import queue
import threading


class UniqueQueue(queue.Queue):
    def _init(self, maxsize):
        self.items = {}

    def _qsize(self):
        return len(self.items)

    def _put(self, item):
        self.items[item] = True

    def _get(self):
        first = next(iter(self.items))
        del self.items[first]
        return first


q = UniqueQueue()
threads = [threading.Thread(target=q.put, args=(item,)) for item in "abcabcabc"]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("unique items:", sorted(q.get() for _ in range(q.qsize())))
