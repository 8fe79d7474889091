"""A process is killed at each point that the core has a name for; the others go on, with one item less at most."""

from __future__ import annotations

import pytest
from tests.faults.harness import LIBRARY, check

from phalanx import _core

POINTS: list[str] = list(_core._kill_points()) if hasattr(_core, "_kill_points") else []

# What the victim does again and again until the point comes, and what the others find afterwards. `b` counts what it
# has begun, `d` what it has done.
HEAD = """
from phalanx import _core
SIZES = (0, 10, 3000, 20_000, 100_000, 1_500_000)
TURNS = 60

def item(n): return (n, bytes([n % 251]) * SIZES[n % len(SIZES)])

def die_at():
    assert _core._kill_at(sys.argv[1], int(sys.argv[2])) in (None, True)

def fetch(q, sure, most):
    seen = 0
    while seen < sure or not q.empty():
        assert q.get() == item(seen), seen
        seen += 1
    assert sure <= seen <= most, (sure, seen, most)

def usable(q):
    assert q.empty()
    for n in range(10): q.put(item(n)); assert q.get() == item(n)
    end(start(q.put, 1)); assert q.get() == 1 and q.empty()
"""

PUT = """
def victim(q):
    die_at()
    for n in range(TURNS): bump("b"); q.put(item(n)); bump("d")

def main():
    q = ctx.KIND()
    end(start(victim, q), code=-9)
    fetch(q, count("d"), count("b"))
    usable(q)
"""

GET = """
def victim(q):
    die_at()
    for n in range(TURNS): bump("b"); assert q.get() == item(n); bump("d")

def main():
    q = ctx.KIND()
    for n in range(TURNS): q.put(item(n))
    end(start(victim, q), code=-9)
    done, left = count("d"), []
    while not q.empty():
        n, blob = q.get(); assert (n, blob) == item(n)
        left.append(n)
    assert left in (list(range(done, TURNS)), list(range(done + 1, TURNS))), (done, left)
    usable(q)
"""

LOCK = """
def victim(lock):
    die_at()
    while True: lock.acquire(); lock.release()

def rival(lock):
    while not count("q"): lock.acquire(); lock.release()

def refused(lock): assert not lock.acquire(block=False) and not lock.acquire(timeout=0.01)

def main():
    lock = synchronize.KIND(recover=True)
    rivals = [start(rival, lock) for _ in range(2)]
    end(start(victim, lock), code=-9)
    mark("q"); end(*rivals)
    for n in range(3): assert lock.acquire(timeout=5); lock.release()
    assert lock.acquire(timeout=5)
    end(start(refused, lock)); lock.release()
"""

NOTIFY = """
def wait(condition, letter):
    with condition:
        mark(letter)
        while not count("s"): condition.wait()
    mark(letter, 2)

def victim(condition):
    die_at()
    while True:
        with condition: condition.notify_all()

def main():
    condition = ctx.Condition(synchronize.RLock(recover=True))
    waiters = [start(wait, condition, letter) for letter in "xyz"]
    for waiter, letter in zip(waiters, "xyz"): await_mark(letter); asleep(waiter.pid)
    end(start(victim, condition), code=-9)
    mark("s")
    with condition: condition.notify_all()
    end(*waiters)
    assert [count(letter) for letter in "xyz"] == [2, 2, 2]
"""

# Objects come and go.
OBJECTS = """
def make():
    q, lock, value = ctx.Queue(), ctx.Lock(), ctx.Array("b", 50_000)
    one, other = ctx.Pipe()
    q.put(bytes(20_000)); q.put(bytes(200_000)); one.send(lock)

def victim(kept):
    die_at()
    for n in range(20 * TURNS): make()

def main():
    kept = ctx.Queue(); kept.put("kept")
    end(start(victim, kept), code=-9)
    for n in range(10): make()
    assert kept.get() == "kept"; usable(kept)
"""

# Whoever buries the dead dies over it.
BURY = """
def dead(lock, q, theirs):
    lock.acquire(); q.put(bytes(200_000)); mark("d")
    q.get(); mark("d", 2); forever()

def victim(lock):
    die_at()
    mark("v")
    lock.acquire()

def main():
    lock, q = synchronize.Lock(recover=True), ctx.Queue()
    mine, theirs = ctx.Pipe()
    first = start(dead, lock, q, theirs); theirs.close(); await_mark("d", 2)
    undertaker = start(victim, lock); await_mark("v"); asleep(undertaker.pid)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: gone(undertaker.pid), "the undertaker dies")
    with raises(EOFError): mine.recv()
    assert lock.acquire(timeout=5); lock.release()
    end(first, undertaker, code=-9)
    usable(q)
"""

# A pipe that is selected on.
BELL = """
def victim(end, other, verb):
    other.close()
    die_at()
    for n in range(TURNS):
        bump("b")
        if verb == "send": end.send(n)
        else: assert end.recv() == n
        bump("d")

def main():
    verb = "KIND"
    reader, writer = ctx.Pipe(False)
    assert connection.wait([reader], 0) == []
    if verb == "recv":
        for n in range(TURNS):
            writer.send(n)
            if n == 0: assert connection.wait([reader], 5) == [reader]
        end(start(victim, reader, writer, verb), code=-9)
        assert connection.wait([reader], 5) == [reader]
        left = []
        while reader.poll(): left.append(reader.recv())
        done = count("d")
        assert left in (list(range(done, TURNS)), list(range(done + 1, TURNS))), (done, left)
        for n in range(3):
            writer.send(n); assert connection.wait([reader], 5) == [reader] and reader.recv() == n
    else:
        end(start(victim, writer, reader, verb), code=-9)
        seen = 0
        while reader.poll(): assert reader.recv() == seen; seen += 1
        assert count("d") <= seen <= count("b")
        for n in range(3):
            writer.send(n); assert connection.wait([reader], 5) == [reader] and reader.recv() == n
    assert not reader.poll()
"""

# A point on the way into any wait.
QUEUED = """
THINGS = dict(
    get=(lambda: ctx.Queue(), lambda q: q.get(), lambda q: q.put(1), lambda q: q.empty()),
    put=(lambda: full(), lambda q: q.put(1), lambda q: q.get(), lambda q: q.get() and q.empty()),
    lock=(lambda: taken(ctx.Lock()), lambda l: l.acquire(), lambda l: l.release(), lambda l: True),
    semaphore=(lambda: ctx.Semaphore(0), lambda s: s.acquire(), lambda s: s.release(), lambda s: not s.acquire(False)),
    event=(lambda: ctx.Event(), lambda e: e.wait(), lambda e: e.set(), lambda e: e.is_set()),
    condition=(lambda: robust(), lambda c: wait(c), lambda c: notify(c), lambda c: not c.acquire() or True),
)

def full(): q = ctx.Queue(1); q.put(1); return q
def robust(): return ctx.Condition(synchronize.RLock(recover=True))
def taken(lock): lock.acquire(); return lock
def wait(condition):
    with condition: condition.wait()
def notify(condition):
    with condition: condition.notify_all()

def victim(thing, wait): die_at(); wait(thing)
def other(thing, wait): mark("o"); wait(thing); mark("o", 2)

def main():
    make, wait, wake, rest = THINGS["KIND"]
    thing = make()
    sleeper = start(other, thing, wait); await_mark("o"); asleep(sleeper.pid)
    end(start(victim, thing, wait), code=-9)
    wake(thing)
    end(sleeper)
    assert count("o") == 2 and rest(thing)
"""

BARRIER = """
def member(barrier, letter):
    try:
        for n in range(TURNS): barrier.wait(); bump(letter)
    except (threading.BrokenBarrierError, DeadlockError): pass

def victim(barrier):
    die_at()
    member(barrier, "v")

def main():
    barrier = ctx.Barrier(3)
    members = [start(member, barrier, letter) for letter in "xy"]
    end(start(victim, barrier), code=-9)
    end(*members)
    assert abs(count("x") - count("y")) <= 1 and count("x") - count("v") in (0, 1), [count(c) for c in "xyv"]
    barrier.reset()
    for letter in "xyv": mark(letter, 0)
    members = [start(member, barrier, letter) for letter in "xy"]
    member(barrier, "v")
    end(*members)
    assert count("x") == count("y") == count("v") == TURNS
"""

TABLE = """
def change(thing, n):
    if "KIND" == "dict": thing[n % 7] = item(n); thing.pop((n + 3) % 7, None)
    else: thing.append(item(n)); thing.insert(n % 3, item(n)); thing.pop(n % 4)

def victim(thing):
    die_at()
    for n in range(10_000): change(thing, n)

def main():
    with ctx.Manager() as manager:
        thing = manager.KIND()
        end(start(victim, thing), code=-9)
        found = list(thing.values() if "KIND" == "dict" else thing[:])
        assert len(found) == len(thing) and all(one == item(one[0]) for one in found)
        for n in range(20): change(thing, n)
        thing.clear(); assert not len(thing)
"""

TASK = """
from phalanx import WorkerDied

def begin():
    if not count("b"): mark("b"); die_at()

def square(n): return n * n

def main():
    with ctx.Pool(2, initializer=begin) as pool:
        tasks, lost = [pool.apply_async(square, (n,)) for n in range(60)], 0
        for n, task in enumerate(tasks):
            try: assert task.get(15) == n * n
            except WorkerDied: lost += 1
        assert lost <= 2, lost  # both workers may have begun at once
        # Whoever has not come to its point yet comes to it here.
        assert pool.options(retries=2).map(square, range(20)) == [n * n for n in range(20)]
"""

BUNDLE = """
from phalanx import WorkerDied

def begin():
    if not count("b"): mark("b"); die_at()

def square(n): return n * n

def once(pool):
    results, lost, answers = 0, 0, pool.imap(square, range(500))
    while True:
        try: n = next(answers)
        except StopIteration: break
        except WorkerDied: lost += 1
        else: assert n in ((results + at) ** 2 for at in range(3)); results += 1
    assert results + lost == 500, (results, lost)
    return lost

def main():
    with ctx.Pool(2, initializer=begin) as pool:
        lost = 0
        while not lost: lost = once(pool)  # a worker may sleep through a round
        lost += once(pool) + once(pool)
        assert lost <= 2, lost  # both workers may have begun at once
"""

# By the first word of a point's name.
SCENARIOS = {
    "put": (PUT, ("Queue", "SimpleQueue", "JoinableQueue")),
    "get": (GET, ("Queue", "SimpleQueue", "JoinableQueue")),
    "grow": (PUT, ("Queue",)),
    "run": (PUT, ("Queue",)),
    "slab": (PUT, ("Queue",)),
    "free": (OBJECTS, ("all",)),
    "bury": (BURY, ("all",)),
    "bell": (BELL, ("send", "recv")),
    "take": (NOTIFY, ("Condition",)),
    "acquire": (LOCK, ("Lock", "RLock", "Semaphore")),
    "release": (LOCK, ("Lock", "RLock", "Semaphore")),
    "notify": (NOTIFY, ("Condition",)),
    "queued": (QUEUED, ("get", "put", "lock", "semaphore", "event", "condition")),
    "barrier": (BARRIER, ("Barrier",)),
    "table": (TABLE, ("dict", "list")),
    "task": (TASK, ("Pool",)),
    "bundle": (BUNDLE, ("Pool",)),
}


NTH = {"queued": (1,), "bundle.begun": (1, 90), "bundle.before_given": (1, 90), "bury": (1, 2, 3, 4)}


def cases() -> list[tuple[str, str, int]]:
    """Each point with each kind it belongs to, the first time it is reached and a later time."""
    return [
        (point, kind, nth)
        for point in POINTS
        for kind in SCENARIOS.get(point.split(".")[0], ("", ("nothing",)))[1]
        for nth in NTH.get(point, (1, 4))
    ]


@pytest.mark.skipif(LIBRARY == "std", reason="the standard library has no such points")
def test_there_are_points_and_each_has_a_scenario() -> None:
    assert POINTS
    assert not [point for point in POINTS if point.split(".")[0] not in SCENARIOS]


@pytest.mark.parametrize(("point", "kind", "nth"), cases())
def test_killed_at(point: str, kind: str, nth: int) -> None:
    scenario = SCENARIOS[point.split(".", maxsplit=1)[0]][0]
    check(HEAD + scenario.replace("KIND", kind), point, str(nth))
