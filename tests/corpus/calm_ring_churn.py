# shows: a token goes round a ring of threads; at any moment all but one are asleep
# verdict: ok
# plain: ok
# expect: 4 rings, 500 rounds each
import queue
import threading

ROUNDS = 500


class SemaphoreLink:
    def __init__(self):
        self.semaphore = threading.Semaphore(0)
        self.put, self.get = self.semaphore.release, self.semaphore.acquire


class ConditionLink:
    def __init__(self):
        self.condition = threading.Condition()
        self.token = False

    def put(self):
        with self.condition:
            self.token = True
            self.condition.notify()

    def get(self):
        with self.condition:
            while not self.token:
                self.condition.wait()
            self.token = False


class QueueLink:
    def __init__(self, kind):
        self.queue = kind()
        self.get = self.queue.get

    def put(self):
        self.queue.put("token")


def pass_on(source, target):
    for _ in range(ROUNDS):
        source.get()
        target.put()


def run_ring(make_link):
    links = [make_link() for _ in range(4)]
    threads = [threading.Thread(target=pass_on, args=(links[n], links[(n + 1) % 4])) for n in range(4)]
    for t in threads:
        t.start()
    links[0].put()
    for t in threads:
        t.join()
    links[0].get()


kinds = (SemaphoreLink, ConditionLink, lambda: QueueLink(queue.Queue), lambda: QueueLink(queue.SimpleQueue))
for kind in kinds:
    run_ring(kind)
print(len(kinds), "rings,", ROUNDS, "rounds each")
