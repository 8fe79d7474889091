"""Daemon threads while the interpreter ends: no abort, no hang, not a word on standard error.

Up to 3.13 a daemon thread that attaches then is ended by `pthread_exit`, which unwinds its stack. A Rust frame that
catches on the way aborts the process, so each test makes a thread come back through one kind of frame.
"""

from __future__ import annotations

from textwrap import dedent

import pytest
from tests.programs import Outcome, run

CLEAN = Outcome(0, "", "")

# Every kind of wait at once; `blocked` counts up just before each.
EVERY_WAIT = """
from concurrent.futures import Future
def taken(lock):
    lock.acquire()
    return lock
lock, rlock, semaphore = taken(threading.Lock()), taken(threading.RLock()), threading.Semaphore(0)
native, foreign = threading.Condition(threading.Lock()), threading.Condition(threading.Semaphore(1))
event, barrier, future = threading.Event(), threading.Barrier(9), Future()
empty, full, unfinished = queue.Queue(), queue.Queue(1), queue.Queue()
full.put(0); unfinished.put(0)
opened = [queue.Queue(), queue.Queue(1), queue.Queue()]
opened[1].put(0); opened[2].put(0)
for q in opened:
    q.mutex
heap, simple = queue.PriorityQueue(), queue.SimpleQueue()
def within(condition):
    with condition:
        condition.wait()
waits = [
    lock.acquire, rlock.acquire, lambda: within(native), lambda: within(foreign), semaphore.acquire, event.wait,
    barrier.wait, empty.get, lambda: full.put(1), unfinished.join, opened[0].get, lambda: opened[1].put(1),
    opened[2].join, heap.get, simple.get, future.result, lambda: event.wait(60), lambda: empty.get(timeout=60),
]
blocked = threading.Semaphore(0)
def sleep(wait):
    blocked.release()
    wait()
threads = [threading.Thread(target=sleep, args=(wait,), daemon=True) for wait in waits]
threads.append(threading.Thread(target=sleep, args=(threads[0].join,), daemon=True))
for thread in threads:
    thread.start()
for thread in threads:
    blocked.acquire()
"""

WAKE = """
def wake():
    for release in (lock.release, rlock.release, semaphore.release, event.set, barrier.abort, lambda: empty.put(1),
                    full.get, unfinished.task_done, lambda: opened[0].put(1), opened[1].get, opened[2].task_done,
                    lambda: heap.put(1), lambda: simple.put(1), lambda: future.set_result(1)):
        release()
    for condition in (native, foreign):
        with condition:
            condition.notify_all()
"""


def test_asleep_in_every_kind_of_wait() -> None:
    for _ in range(20):
        assert run(EVERY_WAIT) == CLEAN


def test_woken_by_an_atexit_function() -> None:
    for _ in range(10):
        # The broken barrier is an exception in its thread, which nobody need hear of.
        assert run(EVERY_WAIT + WAKE + "threading.excepthook = lambda _: None\natexit.register(wake)\n") == CLEAN


def test_woken_by_a_destructor_while_modules_are_torn_down() -> None:
    program = """
    class Last:
        def __init__(self, *calls): self.calls = calls
        def __del__(self):
            for call in self.calls: call()
    sys.last = Last(lock.release, semaphore.release, event.set, lambda put=empty.put: put(1), full.get)
    """
    for _ in range(10):
        assert run(EVERY_WAIT + dedent(program)) == CLEAN


def test_busy_in_every_kind_of_queue() -> None:
    program = """
    class Item:
        def __lt__(self, other):
            time.sleep(0)
            return id(self) < id(other)
    def work(q):
        while True:
            q.put(Item()); q.put(Item()); q.get(); q.get()
    queues = [queue.Queue(), queue.LifoQueue(), queue.PriorityQueue(), queue.SimpleQueue(), queue.Queue()]
    queues[-1].mutex
    for q in queues * 2:
        threading.Thread(target=work, args=(q,), daemon=True).start()
    time.sleep(0.02)
    """
    for _ in range(10):
        assert run(program) == CLEAN


def test_sys_exit_in_a_thread_ends_only_that_thread() -> None:
    program = """
    thread = threading.Thread(target=sys.exit, args=(3,))
    thread.start(); thread.join()
    print("end")
    """
    assert run(program) == Outcome(0, "end\n", "")


def test_a_timer_holds_up_the_exit() -> None:
    assert run("threading.Timer(0.1, print, ['late']).start()") == Outcome(0, "late\n", "")


ENDS_IN_PYO3 = "PyO3's slot catches the forced unwind: "


@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"])
def test_destructors_of_items_of_a_queue_that_goes_away(kind: str) -> None:
    program = """
    class Item:
        def __lt__(self, other): return True
        def __del__(self): time.sleep(0.01)
    def work():
        while True:
            q = getattr(queue, sys.argv[1])()
            for _ in range(3): q.put(Item())
            del q
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.1)
    """
    assert [run(program, kind) for _ in range(3)] == [CLEAN] * 3


def test_garbage_collected_while_an_object_is_made() -> None:
    program = """
    class Cycle:
        def __init__(self): self.me = self
        def __del__(self): time.sleep(0.05)
    def work():
        while True:
            Cycle(); threading.Event()
    gc.set_threshold(2)
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.2)
    """
    assert [run(program) for _ in range(5)] == [CLEAN] * 5


def test_a_deadlock_reported_while_the_interpreter_ends() -> None:
    # `sum` runs last and keeps the interpreter, so that the daemon waits for it when the end begins.
    program = """
    atexit.register(sum, range(60_000_000))
    a, b, both = threading.Lock(), threading.Lock(), threading.Barrier(3)
    def cross(first, second):
        with first:
            both.wait()
            with second: pass
    threading.Thread(target=cross, args=(a, b), daemon=True).start()
    threading.Thread(target=cross, args=(b, a), daemon=True).start()
    both.wait()
    time.sleep(0.02)
    """
    assert run(program, deadlock="report").code == 0
