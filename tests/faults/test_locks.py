"""What happens to a lock, a semaphore, a condition, an event or a barrier when a process dies with it."""

from __future__ import annotations

import pytest
from tests.faults.harness import check

LOCKS = {
    "Lock": "lock = ctx.Lock()",
    "RLock": "lock = ctx.RLock()",
    "Semaphore": "lock = ctx.Semaphore(1)",
    "BoundedSemaphore": "lock = ctx.BoundedSemaphore(1)",
    "Value": "lock = ctx.Value('i', 5).get_lock()",
    "Array": "lock = ctx.Array('i', 5).get_lock()",
    "Condition": "lock = ctx.Condition()",
}
WITH_RECOVER = ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Value", "Array")
METHODS = ("fork", "spawn", "forkserver")

TOOLS = """
def hold(lock):
    lock.acquire()  # taken
    mark("h"); forever()

def take(lock):
    mark("t")
    try: lock.acquire()
    except OwnerDied as error:
        Path("told").write_text(str(error)); mark("d")
    else: mark("g"); lock.release()

def victim(lock):
    child = start(hold, lock, name="keeper"); await_mark("h")
    return child
"""


@pytest.mark.parametrize("kind", LOCKS)
def test_the_next_to_come_is_told_whose_death_it_is(kind: str) -> None:
    check(f"""{TOOLS}
def main():
    {LOCKS[kind]}
    child = victim(lock); pid = child.pid
    kill(child)
    with raises(OwnerDied, "keeper", str(pid), "killed by SIGKILL", place("taken")): lock.acquire()
    with raises(OwnerDied, str(pid)): lock.acquire(timeout=5)
    end(child, code=-9)
""")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", WITH_RECOVER)
def test_poisoned_for_everybody_until_it_is_recovered(kind: str, method: str) -> None:
    scenario = f"""{TOOLS}
def main():
    {LOCKS[kind]}
    bury(victim(lock))
    end(start(take, lock)); assert count("d") and not count("g")
    with raises(OwnerDied): lock.acquire()
    lock.recover()
    assert lock.acquire(); lock.release()
    end(start(take, lock)); assert count("g")
    with lock: pass
"""
    check(scenario, method=method)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_a_lock_that_recovers_by_itself(kind: str) -> None:
    check(f"""{TOOLS}
def main():
    lock = mp.{kind}(recover=True)
    for _ in range(3):
        mark("h", 0); mark("g", 0)
        child = victim(lock); other = start(take, lock); await_mark("t"); asleep(other.pid)
        kill(child)
        until(lambda: count("g"), "the waiter gets the lock", SOON)
        assert lock.acquire(timeout=5); lock.release()
        end(child, code=-9); end(other)
""")


@pytest.mark.parametrize("kind", LOCKS)
def test_who_waits_already_learns_of_it_soon(kind: str) -> None:
    check(f"""{TOOLS}
def main():
    {LOCKS[kind]}
    child = victim(lock); pid = child.pid
    waiters = [start(take, lock), start(take, lock)]
    await_mark("t"); asleep(*(waiter.pid for waiter in waiters))
    kill(child)
    until(lambda: all(gone(waiter.pid) for waiter in waiters), "the waiters learn of it", SOON)
    assert count("d") and not count("g")
    told = Path("told").read_text()
    assert "killed by SIGKILL" in told and str(pid) in told and place("taken") in told, told
    end(child, code=-9); end(*waiters)
""")


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_killed_at_some_moment_of_taking_and_giving_back(kind: str) -> None:
    # Nothing but the two calls in the loop, so that most of the kills come in the middle of one.
    check(
        """
def loop(lock):
    mark("l")
    while True: lock.acquire(); lock.release()

def main():
    moment, lost = random.Random(6), 0
    for turn in range(50):
        mark("l", 0)
        lock = synchronize.KIND(recover=True)
        child = start(loop, lock); await_mark("l"); spin(moment.random() * 0.001)
        bury(child)
        if lock.acquire(timeout=1): lock.release()
        else: lost += 1
    assert not lost, f"{lost} of 50 killed took what nobody can get any more"
""".replace("KIND", kind),
        deadline=60,
    )


@pytest.mark.parametrize("kind", WITH_RECOVER)
def test_recovered_before_anybody_has_noticed(kind: str) -> None:
    check(f"""{TOOLS}
def main():
    {LOCKS[kind]}
    child = victim(lock)
    kill(child)
    lock.recover()
    assert lock.acquire(timeout=5); lock.release()
    end(child, code=-9)
""")


@pytest.mark.parametrize("kind", WITH_RECOVER)
def test_recovering_takes_nothing_from_the_living(kind: str) -> None:
    check(f"""{TOOLS}
def main():
    {LOCKS[kind]}
    child = victim(lock)
    try: lock.recover()
    except (RuntimeError, ValueError, OSError, PhalanxError): pass
    assert not lock.acquire(timeout=0.01)
    bury(child)
    lock.recover()
    assert lock.acquire(timeout=5)
    try: lock.recover()
    except (RuntimeError, ValueError, OSError, PhalanxError): pass
    end(start(take_not, lock)); lock.release()

def take_not(lock): assert not lock.acquire(timeout=0.01)
""")


def test_a_lock_held_twice_by_the_dead() -> None:
    check(f"""{TOOLS}
def twice(lock):
    with lock: hold(lock)

def main():
    lock = ctx.RLock()
    child = start(twice, lock); await_mark("h")
    bury(child)
    with raises(OwnerDied): lock.acquire()
    lock.recover()
    lock.acquire(); lock.release()
    with raises((AssertionError, RuntimeError, ValueError)): lock.release()
""")


def test_a_value_whose_writer_was_killed() -> None:
    check("""
def writer(value):
    with value: value.value = 7; mark("h"); forever()

def main():
    value = ctx.Value("i", 5)
    child = start(writer, value); await_mark("h")
    bury(child)
    with raises(OwnerDied, "killed by SIGKILL"): value.value += 1
    value.get_lock().recover()
    assert value.value == 7
    with value: value.value += 1
    assert value.value == 8
""")


def test_one_of_two_permits_died() -> None:
    check(f"""{TOOLS}
def main():
    lock = ctx.Semaphore(2)
    bury(victim(lock))
    assert lock.acquire(timeout=5)  # the other one
    with raises(OwnerDied, "killed by SIGKILL"): lock.acquire()
    lock.release(); lock.recover()
    assert lock.acquire(timeout=5) and lock.acquire(timeout=5) and not lock.acquire(block=False)
""")


def test_whoever_died_without_the_lock_poisons_nothing() -> None:
    check(f"""{TOOLS}
def idle(lock):
    with lock: pass
    mark("h"); forever()

def main():
    lock = ctx.Lock()
    child = start(idle, lock); await_mark("h")
    bury(child)
    with lock: pass
""")


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "Condition"])
def test_killed_while_it_waits_for_a_lock(kind: str) -> None:
    check(f"""{TOOLS}
def main():
    {LOCKS[kind]}
    lock.acquire()
    first = start(take, lock); await_mark("t"); asleep(first.pid)
    mark("t", 0)
    other = start(take, lock); await_mark("t"); asleep(other.pid)
    kill(first)
    lock.release()
    until(lambda: count("g"), "the other waiter gets it")
    end(first, code=-9); end(other)
    with lock: pass
""")


def test_a_process_that_ends_with_a_lock() -> None:
    check("""
def leave(lock):
    lock.acquire()
    os._exit(3)

def main():
    lock = ctx.Lock()
    child = start(leave, lock); pid = child.pid
    end(child, code=3)
    with raises(OwnerDied, str(pid)): lock.acquire()
""")


# ---- conditions and events


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("notify", ["notify()", "notify(2)", "notify_all()"])
def test_killed_while_it_waits_in_a_condition(notify: str, method: str) -> None:
    scenario = f"""
def wait(condition, letter):
    with condition:
        mark(letter)
        assert condition.wait()
    mark(letter, 2)

def main():
    condition = ctx.Condition()
    first = start(wait, condition, "a"); await_mark("a"); asleep(first.pid)
    other = start(wait, condition, "b"); await_mark("b"); asleep(other.pid)
    kill(first)
    with condition: condition.{notify}
    await_mark("b", 2)
    end(first, code=-9); end(other)
    with condition: assert not condition.wait(0.01)
"""
    check(scenario, method=method)


@pytest.mark.parametrize("recover", [False, True])
def test_the_lock_of_a_condition_dies_while_others_wait(recover: bool) -> None:
    check(f"""
def wait(condition):
    try:
        with condition:
            mark("w")
            condition.wait()
            assert {recover}
    except OwnerDied as error:
        assert "killed by SIGKILL" in str(error) and place("taken") in str(error) and not {recover}
    mark("w", 2)

def notify(condition):
    with condition:  # taken
        condition.notify_all()
        mark("n"); forever()

def main():
    condition = ctx.Condition(synchronize.RLock(recover=True) if {recover} else None)
    waiter = start(wait, condition); await_mark("w"); asleep(waiter.pid)
    notifier = start(notify, condition); await_mark("n"); asleep(waiter.pid)
    kill(notifier)
    until(lambda: count("w") == 2, "the waiter goes on", SOON)
    end(notifier, code=-9); end(waiter)
""")


def test_killed_between_the_notification_and_the_lock() -> None:
    check("""
def wait(condition, letter):
    with condition:
        mark(letter)
        condition.wait()
    mark(letter, 2)

def main():
    condition = ctx.Condition()
    first = start(wait, condition, "a"); await_mark("a"); asleep(first.pid)
    with condition:
        condition.notify()
        asleep(first.pid)  # now it waits for the lock
        kill(first)
    other = start(wait, condition, "b"); await_mark("b"); asleep(other.pid)
    with condition: condition.notify_all()
    await_mark("b", 2)
    end(first, code=-9); end(other)
""")


@pytest.mark.parametrize("method", METHODS)
def test_killed_while_it_waits_for_an_event(method: str) -> None:
    scenario = """
def wait(event, letter):
    mark(letter)
    assert event.wait()
    mark(letter, 2)

def main():
    event = ctx.Event()
    first = start(wait, event, "a"); await_mark("a"); asleep(first.pid)
    other = start(wait, event, "b"); await_mark("b"); asleep(other.pid)
    kill(first)
    event.set()
    await_mark("b", 2)
    event.clear(); assert not event.is_set() and not event.wait(0.01)
    event.set(); assert event.wait()
    end(first, code=-9); end(other)
"""
    check(scenario, method=method)


# ---- barriers


@pytest.mark.parametrize("method", METHODS)
def test_a_member_of_a_barrier_killed_while_it_waits(method: str) -> None:
    scenario = """
def member(barrier, letter):
    mark(letter)
    try: barrier.wait()
    except threading.BrokenBarrierError: mark(letter, 2)
    else: mark(letter, 3)

def main():
    barrier = ctx.Barrier(3)
    first = start(member, barrier, "a"); await_mark("a"); asleep(first.pid)
    other = start(member, barrier, "b"); await_mark("b"); asleep(other.pid)
    kill(first)
    until(lambda: count("b") == 2, "the other member is told", SOON)
    end(first, code=-9); end(other)
    assert barrier.broken
    with raises(threading.BrokenBarrierError): barrier.wait()
    barrier.reset()
    again = [start(member, barrier, letter) for letter in "cd"]
    barrier.wait()
    end(*again)
    assert count("c") == count("d") == 3
"""
    check(scenario, method=method)


def test_a_member_of_a_barrier_killed_while_it_waits_alone() -> None:
    check("""
def member(barrier, letter):
    mark(letter)
    try: barrier.wait()
    except threading.BrokenBarrierError: mark(letter, 2)

def main():
    barrier = ctx.Barrier(3)
    first = start(member, barrier, "a"); await_mark("a"); asleep(first.pid)
    bury(first)
    other = start(member, barrier, "b")
    with raises(threading.BrokenBarrierError): barrier.wait()
    assert barrier.broken
    end(other); assert count("b") == 2
""")


def test_a_member_of_a_barrier_killed_before_it_comes() -> None:
    # Somebody is told, be it the parent, which waits for a process that waits for ever.
    check("""
def late(barrier): barrier.wait(); mark("l"); forever()

def member(barrier):
    barrier.wait(); mark("m")
    try: barrier.wait()
    except (threading.BrokenBarrierError, DeadlockError): mark("m", 2)

def main():
    barrier = ctx.Barrier(2)
    dead, other = start(late, barrier), start(member, barrier)
    await_mark("l"); await_mark("m"); asleep(other.pid)
    bury(dead)
    try: other.join()
    except DeadlockError: bury(other)
    else: end(other); assert count("m") == 2
""")
