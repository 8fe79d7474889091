"""Eight threads on each primitive, and on all at once, for a bounded number of steps: nothing lost, nothing doubled."""

from __future__ import annotations

import pytest
from tests.programs import run

# `together(step, ...)` runs the steps in a thread each, from one start, and tells what any of them raised.
TOOLS = """
import concurrent.futures as futures
sys.setswitchinterval(1e-6)
THREADS, failed = 8, []
def together(*steps):
    start = threading.Barrier(len(steps))
    def body(step):
        try: start.wait(); step()
        except BaseException as error: failed.append(repr(error)); raise
    threads = [threading.Thread(target=body, args=(step,)) for step in steps]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not failed, failed
def times(count, step):
    def body():
        for n in range(count): step(n)
    return body
class Total:
    # Not atomic on purpose: a read, a turn for somebody else, a write.
    def __init__(self): self.value = 0
    def add(self, n): old = self.value; str(old); self.value = old + n
"""

PROGRAMS = {
    "Lock": """
lock, total = threading.Lock(), Total()
def step(n):
    with lock: total.add(n)
def spelled(n):
    while not (lock.acquire(False) or lock.acquire(timeout=0.001)): pass
    try: total.add(n)
    finally: lock.release()
together(*[times(3000, step)] * 6, *[times(3000, spelled)] * 2)
assert total.value == 8 * sum(range(3000)) and not lock.locked()
""",
    "RLock": """
lock, total = threading.RLock(), Total()
def step(n):
    with lock:
        with lock: total.add(1)
        lock.acquire(); total.add(1); lock.release()
together(*[times(2000, step)] * 8)
assert total.value == 8 * 2 * 2000 and not lock._is_owned()
""",
    "Semaphore": """
semaphore, lock, inside, most = threading.BoundedSemaphore(3), threading.Lock(), Total(), []
def step(n):
    if n % 3 == 0:
        while not semaphore.acquire(timeout=0.0005): pass
    else: semaphore.acquire()
    with lock: inside.add(1); most.append(inside.value)
    with lock: inside.add(-1)
    semaphore.release()
together(*[times(800, step)] * 8)
assert max(most) <= 3 and len(most) == 8 * 800 and (inside.value, semaphore._value) == (0, 3)
""",
    "Semaphore, several permits": """
semaphore, n = threading.Semaphore(0), 1000
together(*[times(n * 4, lambda _: semaphore.acquire())] * 4, *[times(n, lambda _: semaphore.release(4))] * 4)
assert semaphore._value == 0
""",
    "Event": """
# Each pair plays ping-pong; a lost wake-up ends in a deadlock.
def pair():
    ping, pong = threading.Event(), threading.Event()
    def serve(n): ping.wait(); ping.clear(); pong.set()
    def play(n): ping.set(); pong.wait(); pong.clear()
    return times(1500, serve), times(1500, play)
together(*[step for _ in range(4) for step in pair()])
""",
    "Event, one for all": """
rounds = [threading.Event() for _ in range(300)]
arrived = [threading.Semaphore(0) for _ in rounds]
def follow(n): arrived[n].release(); assert rounds[n].wait()
def lead(n):
    for _ in range(7): arrived[n].acquire()
    rounds[n].set()
together(times(300, lead), *[times(300, follow)] * 7)
""",
    "Condition ring": """
condition, turn, log = threading.Condition(), [0], []
def member(k):
    def step(n):
        with condition:
            while turn[0] % 8 != k: condition.wait()
            log.append(turn[0]); turn[0] += 1
            condition.notify_all()
    return times(100, step)
together(*[member(k) for k in range(8)])
assert log == list(range(800))
""",
    "Condition ring of eight conditions": """
lock = threading.Lock(); places = [threading.Condition(lock) for _ in range(8)]; turn = [0]
def member(k):
    def step(n):
        with places[k]:
            places[k].wait_for(lambda: turn[0] % 8 == k)
            turn[0] += 1
            places[(k + 1) % 8].notify()
    return times(400, step)
together(*[member(k) for k in range(8)])
assert turn == [3200] and all(place._waiting == 0 for place in places)
""",
    "Condition with time limits": """
condition, room, total = threading.Condition(), [0], Total()
def put(n):
    with condition: room[0] += 1; condition.notify()
def take(n):
    with condition:
        while not room[0]: condition.wait(0.0005 if n % 2 else None)
        room[0] -= 1; total.add(1)
together(*[times(1000, put)] * 4, *[times(1000, take)] * 4)
assert (room, total.value, condition._waiting) == ([0], 4000, 0)
""",
    "Barrier": """
total, seen, places = Total(), [], []
barrier, lock = threading.Barrier(8, lambda: seen.append(total.value)), threading.Lock()
def step(n):
    with lock: total.add(1)
    place = barrier.wait()
    with lock: places.append((n, place))
    assert len(seen) >= n + 1
together(*[times(200, step)] * 8)
assert seen == [8 * (n + 1) for n in range(200)], seen
assert sorted(places) == [(n, place) for n in range(200) for place in range(8)]
""",
    "Barrier, broken and reset": """
barrier, meet, got, lock = threading.Barrier(8), threading.Barrier(8), [], threading.Lock()
def step(n):
    try: barrier.wait() if meet.wait() else barrier.abort(); ended = "passed"
    except threading.BrokenBarrierError: ended = "broken"
    with lock: got.append(ended)
    if meet.wait() == 0: barrier.reset()
    meet.wait()
together(*[times(60, step)] * 8)
assert got.count("broken") == 7 * 60 and got.count("passed") == 60
""",
    "Future": """
made = [futures.Future() for _ in range(400)]
called, lock = [], threading.Lock()
def note(future):
    with lock: called.append(future)
def reader(n): made[n].add_done_callback(note); assert made[n].result() == n and made[n].done()
def waiter(n): assert not futures.wait(made[n : n + 3]).not_done
def writer(n): made[n].set_running_or_notify_cancel(); made[n].set_result(n)
together(times(400, writer), *[times(400, reader)] * 5, *[times(400, waiter)] * 2)
assert len(called) == 5 * 400
""",
    "pool": """
# Eight submitters, results that they add up, tasks that submit tasks.
with futures.ThreadPoolExecutor(4) as pool:
    totals, lock = [], threading.Lock()
    def submitter():
        mine = [pool.submit(pow, n, 2) for n in range(250)]
        follow = [pool.submit(pool.submit, int, "7") for _ in range(50)]
        total = sum(future.result() for future in mine) + sum(future.result().result() for future in follow)
        total += sum(pool.map(abs, range(-100, 0)))
        total += sum(future.result() for future in futures.as_completed([pool.submit(int, "1") for _ in range(50)]))
        with lock: totals.append(total)
    together(*[submitter] * 8)
assert totals == [sum(n * n for n in range(250)) + 350 + 5050 + 50] * 8, totals
""",
    "pool, cancelled and shut down": """
for _ in range(20):
    pool, ran, made = futures.ThreadPoolExecutor(3), [], []
    def submitter():
        try:
            for n in range(40): made.append(pool.submit(ran.append, n))
        except RuntimeError: pass
    together(*[submitter] * 7, lambda: pool.shutdown(cancel_futures=True))
    pool.shutdown()
    assert all(future.done() for future in made)
    assert len(ran) == sum(not future.cancelled() for future in made)
""",
}

QUEUE = """
kind, maxsize, n = sys.argv[1], int(sys.argv[2]), 600
q = getattr(queue, kind)() if kind == "SimpleQueue" else getattr(queue, kind)(maxsize)
got = [[] for _ in range(4)]
def put(k):
    def step(n):
        if n % 7 == 0 and maxsize:
            while True:
                try: q.put(item(k, n), timeout=0.0005); break
                except queue.Full: pass
        else: q.put(item(k, n))
    return times(n, step)
def item(k, n): return k * 10_000 + n
def get(k):
    def step(n):
        if n % 7 == 0:
            while True:
                try: got[k].append(q.get(timeout=0.0005)); break
                except queue.Empty: pass
        else: got[k].append(q.get())
        if kind != "SimpleQueue": q.task_done()
    return times(n, step)
switch = [lambda: (got_some(), q.mutex, q.join())] if sys.argv[3] == "switch" else []
def got_some():
    while sum(map(len, got)) < n: time.sleep(0)
together(*[put(k) for k in range(4)], *[get(k) for k in range(4)], *switch)
assert sorted(sum(got, [])) == sorted(item(k, j) for k in range(4) for j in range(n))
assert q.qsize() == getattr(q, "unfinished_tasks", 0) == 0
if kind in ("Queue", "SimpleQueue"):
    # Each consumer sees what one producer put in its order.
    for seen in got:
        for k in range(4):
            mine = [one for one in seen if one // 10_000 == k]
            assert mine == sorted(mine)
"""

MIXTURE = """
# Jobs go from thread to thread by every means there is; each ends at one counter.
inbox, outbox, simple = queue.Queue(16), queue.PriorityQueue(), queue.SimpleQueue()
lock, gate, meet = threading.RLock(), threading.Semaphore(4), threading.Barrier(8)
condition, ready, total, n = threading.Condition(lock), threading.Event(), Total(), 400
made = [threading.Event() for _ in range(8)]
with futures.ThreadPoolExecutor(2) as pool:
    def member(k):
        def step(i):
            inbox.put((k, i)); outbox.put(inbox.get()); inbox.task_done()
            simple.put(outbox.get()); simple.get(); outbox.task_done()
            with gate:
                future = pool.submit(int, "1") if i % 10 == 0 else None
            if i % 25 == 0: meet.wait()
            with condition:
                total.add(future.result() if future else 1)
                condition.notify() if i % 2 else condition.wait(0.0001)
            made[k].set(); made[(k + 1) % 8].wait(0.0001); made[k].clear()
        return times(n, step)
    together(*[member(k) for k in range(8)])
inbox.join(); outbox.join()
assert total.value == 8 * n and inbox.empty() and outbox.empty() and simple.empty()
assert (gate._value, condition._waiting, meet.n_waiting, meet.broken) == (4, 0, 0, False)
"""

CHURN = """
# Threads that start threads, with a join for each, while others look.
started, lock = Total(), threading.Lock()
def leaf():
    with lock: started.add(1)
def step(n):
    threads = [threading.Thread(target=leaf) for _ in range(3)]
    for thread in threads: thread.start()
    threading.enumerate()
    for thread in threads: thread.join(); assert not thread.is_alive()
together(*[times(25, step)] * 8)
assert started.value == 8 * 25 * 3 and threading.active_count() == 1
"""


def passes(program: str, *arguments: str) -> None:
    outcome = run(TOOLS + program, *arguments, deadline=15)
    assert outcome == (0, "", ""), outcome.err


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_eight_threads(name: str) -> None:
    passes(PROGRAMS[name])


@pytest.mark.parametrize("form", ["stay", "switch"])
@pytest.mark.parametrize(
    ("kind", "maxsize"), [("Queue", 0), ("Queue", 1), ("Queue", 5), ("LifoQueue", 3), ("PriorityQueue", 3)]
)
def test_four_producers_and_four_consumers(kind: str, maxsize: int, form: str) -> None:
    passes(QUEUE, kind, str(maxsize), form)


def test_four_producers_and_four_consumers_of_a_simple_queue() -> None:
    passes(QUEUE, "SimpleQueue", "0", "stay")


def test_everything_at_once() -> None:
    passes(MIXTURE)


def test_threads_that_come_and_go() -> None:
    passes(CHURN)


@pytest.mark.parametrize("cancel", ["", "cancel_futures=True"])
def test_a_call_that_was_taken_ends_though_the_pool_is_shut_down_meanwhile(cancel: str) -> None:
    # Whether shutdown() comes in between or has to wait is up to the pool; the call must end in both cases.
    program = f"""
import concurrent.futures
reached, done = threading.Event(), threading.Event()
class Pool(concurrent.futures.ThreadPoolExecutor):
    def _adjust_thread_count(self): reached.set(); done.wait(0.3); super()._adjust_thread_count()
pool, made = Pool(1), []
thread = threading.Thread(target=lambda: made.append(pool.submit(int))); thread.start()
reached.wait(); pool.shutdown({cancel}); done.set(); thread.join(); pool.shutdown()
try: assert made[0].result() == 0
except concurrent.futures.CancelledError: assert {cancel!r}
"""
    assert run(program, deadline=6) == (0, "", "")
