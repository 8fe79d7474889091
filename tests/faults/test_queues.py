"""Queues whose putters and getters are killed, stopped or handed what cannot be pickled."""

from __future__ import annotations

import pytest
from tests.faults.harness import check

KINDS = ("Queue", "SimpleQueue", "JoinableQueue")
FEW = ("Queue", "SimpleQueue")
METHODS = ("fork", "spawn")

# `usable(q)`: this process and a fresh one can put and get.
TOOLS = """
BLOB = bytes(range(256)) * 40960  # 10 MB

def echo(q): q.put(("echo", q.get()))

def usable(q):
    assert q.empty()
    q.put("here"); assert q.get() == "here"
    q.put("there"); end(start(echo, q)); assert q.get() == ("echo", "there")
    assert q.empty()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_it_pickles_what_it_puts(kind: str) -> None:
    check(f"""{TOOLS}
def putter(q):
    q.put("whole")
    q.put((BLOB, Deadly()))

def main():
    q = ctx.{kind}()
    child = start(putter, q)
    assert q.get() == "whole"
    end(child, code=-9)
    usable(q)
""")


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_some_moment_of_a_large_put(kind: str) -> None:
    check(f"""{TOOLS}
def putter(q):
    for n in range(3):
        bump("b"); q.put((n, BLOB)); bump("d")
    forever()

def main():
    q, moment = ctx.{kind}(), random.Random(1)
    for turn in range(8):
        mark("b", 0); mark("d", 0)
        child = start(putter, q)
        await_mark("b", turn % 3 + 1); spin(moment.random() * 0.02)
        kill(child); end(child, code=-9)
        sure = count("d")
        for n in range(sure): assert q.get() == (n, BLOB)
        if not q.empty(): assert count("b") > sure and q.get() == (sure, BLOB)
        usable(q)
""")


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_some_moment_of_a_large_get(kind: str) -> None:
    check(f"""{TOOLS}
def putter(q):
    for n in range(5): q.put((n, BLOB))
    mark("p")

def getter(q):
    for n in range(4):
        bump("b"); q.get(); bump("d")
    forever()

def main():
    q, moment = ctx.{kind}(), random.Random(2)
    for turn in range(6):
        for letter in "bdp": mark(letter, 0)
        source, child = start(putter, q), start(getter, q)
        await_mark("b", turn % 4 + 1); spin(moment.random() * 0.02)
        kill(child); end(child, code=-9)
        left = []
        while not left or left[-1] < 4:
            n, blob = q.get(); assert blob == BLOB
            left.append(n)
        lost = 5 - len(left) - count("d")
        assert lost in (0, 1) and left == list(range(5 - len(left), 5)), (left, count("d"))
        end(source)
        usable(q)
""")


@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_it_unpickles_what_it_got(kind: str) -> None:
    check(f"""{TOOLS}
def getter(q): q.get()

def main():
    q = ctx.{kind}()
    child = start(getter, q)
    q.put((BLOB, Poison())); q.put("next")
    end(child, code=-9)
    assert q.get() == "next"
    usable(q)
""")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_it_waits_for_an_item(kind: str, method: str) -> None:
    scenario = f"""{TOOLS}
def getter(q): mark("a"); q.get()
def second(q): mark("b"); mark("c", q.get())

def main():
    q = ctx.{kind}()
    first = start(getter, q); await_mark("a"); asleep(first.pid)
    other = start(second, q); await_mark("b"); asleep(other.pid)
    kill(first)
    q.put(7)
    until(lambda: count("c") == 7)
    end(first, code=-9); end(other)
    usable(q)
"""
    check(scenario, method=method)


def test_killed_while_it_waits_for_room() -> None:
    check(f"""{TOOLS}
def putter(q): mark("a"); q.put("lost with its putter")

def main():
    q = ctx.Queue(1)
    q.put("first")
    child = start(putter, q); await_mark("a"); asleep(child.pid)
    kill(child)
    assert q.get() == "first"
    usable(q)
    end(child, code=-9)
""")


# ---- a bounded queue without consumers


def test_a_full_queue_whose_consumer_is_dead_and_a_time_limit() -> None:
    check("""
def getter(q): mark("a", q.get()); forever()

def main():
    q = ctx.Queue(1)
    child = start(getter, q)
    q.put(1); await_mark("a")
    q.put(2)
    bury(child)
    with raises(Full): q.put(3, timeout=0.2)
    with raises(Full): q.put(3, block=False)
    assert q.get() == 2
""")


def test_a_full_queue_that_nobody_alive_can_ever_empty() -> None:
    check("""
def getter(q): mark("a", q.get()); forever()

def main():
    q = ctx.Queue(1)
    child = start(getter, q)
    q.put(1); await_mark("a")
    q.put(2)
    bury(child)
    with raises(DeadlockError, "Queue.put"): q.put(3)
    assert q.get() == 2 and q.empty()
""")


def test_a_full_queue_and_somebody_alive_who_may_empty_it() -> None:
    check("""
def late(q):
    await_mark("g")
    assert (q.get(), q.get()) == (1, 2)

def putter(q): mark("a"); q.put(2); mark("b")

def main():
    q = ctx.Queue(1)
    q.put(1)
    getter, child = start(late, q), start(putter, q)
    await_mark("a"); asleep(child.pid)
    time.sleep(1)  # time enough for a false alarm
    assert not count("b")
    mark("g")
    end(getter, child)
""")


def test_an_empty_queue_that_nobody_alive_can_ever_fill() -> None:
    check("""
def putter(q): q.put(1); forever()

def main():
    q = ctx.Queue()
    child = start(putter, q)
    assert q.get() == 1
    kill(child)
    with raises(DeadlockError, "Queue.get"): q.get()
    end(child, code=-9)
    q.put(2); assert q.get() == 2
""")


# ---- the end of the putter


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["os._exit(0)", "suicide()"])
def test_what_was_put_is_there_though_its_process_ended_at_once(kind: str, how: str) -> None:
    check(f"""{TOOLS}
def putter(q):
    q.put(1); q.put(BLOB); q.put("last")
    {how}

def main():
    q = ctx.{kind}()
    end(start(putter, q), code=None)
    assert not q.empty()
    assert q.get() == 1 and q.get() == BLOB and q.get() == "last"
    usable(q)
""")


# ---- pickling


@pytest.mark.parametrize("kind", ["Queue(1)", "SimpleQueue()", "JoinableQueue(1)"])
def test_what_cannot_be_pickled_raises_in_put(kind: str) -> None:
    check(f"""{TOOLS}
def main():
    q = ctx.{kind}
    for _ in range(3):
        with raises(ZeroDivisionError, "will not be pickled"): q.put((BLOB, Stubborn()))
        with raises(TypeError, "pickle"): q.put(iter(open("board")))
    assert q.empty()
    usable(q)
""")


@pytest.mark.parametrize("kind", ["Queue(2)", "SimpleQueue()", "JoinableQueue(2)"])
def test_what_raises_while_it_is_loaded_raises_in_get(kind: str) -> None:
    check(f"""{TOOLS}
def main():
    q = ctx.{kind}
    for _ in range(3):
        q.put((BLOB, Bomb())); q.put("next")
        with raises(ZeroDivisionError, "the bomb was loaded"): q.get()
        assert q.get() == "next"
    usable(q)
""")


# ---- SIGSTOP


@pytest.mark.parametrize("kind", ["Queue()", "SimpleQueue()", "Queue(4)"])
def test_a_putter_that_is_stopped_now_and_then_loses_nothing(kind: str) -> None:
    check(
        f"""
def putter(q, name, total):
    for n in range(total): q.put((name, n, bytes(n % 7 * 1000))); bump(name)

def getter(q):
    seen = dict(a=[], b=[])
    for _ in range(4000):
        name, n, blob = q.get()
        assert blob == bytes(n % 7 * 1000)
        seen[name].append(n); bump("g")
    assert seen["a"] == list(range(2000)) == seen["b"]

def main():
    q, moment = ctx.{kind}, random.Random(3)
    children = [start(putter, q, "a", 2000), start(putter, q, "b", 2000), start(getter, q)]
    for turn in range(40):
        victim = children[turn % 3]
        if gone(victim.pid): continue
        spin(moment.random() * 0.003)
        os.kill(victim.pid, signal.SIGSTOP)
        spin(moment.random() * 0.01)
        os.kill(victim.pid, signal.SIGCONT)
    end(*children)
    assert q.empty()
""",
        deadline=40,
    )


# ---- unfinished tasks


@pytest.mark.parametrize("waits", [False, True], ids=["before", "during"])
@pytest.mark.parametrize("method", METHODS)
def test_join_names_the_worker_that_died_with_a_task(method: str, waits: bool) -> None:
    scenario = """
def worker(q):
    q.get(); mark("a")
    if sys.argv[1] == "True": asleep(os.getppid())
    suicide()

def main():
    q = ctx.JoinableQueue()
    q.put("task")
    child = start(worker, q, name="digger"); pid = child.pid
    await_mark("a")
    if sys.argv[1] == "False": until(lambda: gone(pid))
    with raises(OwnerDied, "digger", str(pid), "killed by SIGKILL"): q.join()
    end(child, code=-9)
"""
    check(scenario, str(waits), method=method)


def test_join_when_the_dead_worker_had_finished_its_tasks() -> None:
    check("""
def worker(q):
    for _ in range(2): q.get(); q.task_done()
    mark("a"); q.get()

def main():
    q = ctx.JoinableQueue()
    q.put(1); q.put(2)
    child = start(worker, q); await_mark("a"); asleep(child.pid)
    bury(child)
    q.join()
""")
