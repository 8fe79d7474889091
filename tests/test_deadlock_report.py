"""The words of a deadlock report: each text of the table in at least one report, and the reports in full."""

# Reports are shown as a user sees them.
# ruff: noqa: E501

from __future__ import annotations

import concurrent.futures
import queue
import re
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from phalanx import _waits, deadlock, errors

DOCS = Path(__file__).parent.parent / "docs" / "deadlocks.md"


class Cast:
    """Threads that sleep until the test is over, and snapshots in which they and the test's own thread play."""

    def __init__(self) -> None:
        self.me = threading.current_thread()
        self.threads: list[threading.Thread] = []
        self._curtain = threading.Event()
        self._arrived = threading.Semaphore(0)
        # `rest` is in a module that counts as machinery, so the program's own frame is the innermost one.
        self._stage: dict[str, Any] = {"__name__": "threading.stage", "curtain": self._curtain, "arrived": self._arrived}
        exec("def rest(*_): arrived.release(); curtain.wait()", self._stage)

    def program(self, source: str, path: str) -> dict[str, Any]:
        """The globals of a small program, whose threads call `rest()` where they would wait."""
        names = {"__name__": "program", "rest": self._stage["rest"]}
        exec(compile(source, path, "exec"), names)
        return names

    def thread(self, name: str, target: Callable[[], object] | None = None) -> threading.Thread:
        """A thread that runs `target` up to its `rest()`, or one that has no frames of its own."""
        thread = threading.Thread(target=target or self._stage["rest"], name=name, daemon=True)
        thread.start()
        self._arrived.acquire()
        self.threads.append(thread)
        return thread

    def ended(self, name: str) -> threading.Thread:
        """A thread that has ended and shares its ident with no other that is still remembered: then its name is certain."""
        while True:
            thread = threading.Thread(target=int, name=name)
            thread.start()
            thread.join()
            if [other.ident for other in list(threading._dangling)].count(thread.ident) == 1:  # type: ignore[attr-defined]
                return thread
            self.thread("takes the ident")

    def close(self) -> None:
        self._curtain.set()
        for thread in self.threads:
            thread.join()


def wait(
    who: threading.Thread, kind: str, obj: object = None, owner: threading.Thread | None = None, **more: Any
) -> dict[str, Any]:
    entry = {"ident": who.ident, "native_id": who.native_id, "kind": kind, "object": obj, "taken": None}
    return {**entry, "owner": owner and owner.ident, "owner_alive": bool(owner and owner.is_alive()), **more}


def snapshot(cause: str, *waits: dict[str, Any]) -> dict[str, Any]:
    return {"cause": cause, "victim": waits[0].get("ident") if waits else None, "threads": list(waits)}


def line_of(code: CodeType, line: int) -> tuple[CodeType, int]:
    return code, next(start for start, _, at in code.co_lines() if at == line)


def masked(text: str) -> str:
    """The text with the line numbers of this file and all addresses made the same."""
    text = re.sub(r"test_deadlock_report\.py:\d+", "here.py:N", text)
    return re.sub(r"0x[0-9a-f]+", "0x0", text)


# ---------------------------------------------------------------- every text once

Scenario = Callable[[Cast], str]
SCENARIOS: dict[str, tuple[Scenario, str]] = {}


def expects(text: str) -> Callable[[Scenario], Scenario]:
    """Register a scenario: it returns a report, which must read like this."""

    def register(scenario: Scenario) -> Scenario:
        SCENARIOS[scenario.__name__] = (scenario, textwrap.dedent(text).strip("\n"))
        return scenario

    return register


def report(cause: str, *waits: dict[str, Any]) -> str:
    reports = map(deadlock.build_error, [snapshot(cause, *waits)])
    del waits  # otherwise an object that has no name is found here
    return str(next(reports))


@expects("""
    a thread waits for a lock that it holds itself
      Thread "MainThread"  holds lock (Lock)  waits for lock (Lock, here.py:N)
    hint: use an `RLock`, or do not call what takes `lock` while holding it
""")
def lock_taken_again(cast: Cast) -> str:
    lock = threading.Lock()
    return report("cycle", wait(cast.me, "Lock", lock, cast.me))


@expects("""
    a thread waits for the result of the task that it runs itself
      Thread "MainThread"  runs answer  waits for the result of answer (Future.result, runs in Thread "MainThread", here.py:N)
    hint: let the task return its result instead of asking for it
""")
def own_result(cast: Cast) -> str:
    answer = concurrent.futures.Future[int]()
    return report("cycle", wait(cast.me, "Future.result", answer, cast.me))


@expects("""
    2 threads wait for each other
      Thread "MainThread"  holds a (Lock)   waits for b (RLock, here.py:N)
      Thread "other"       holds b (RLock)  waits for a (Lock)
    hint: take `a` before `b` in both places
""")
def opposite_order(cast: Cast) -> str:
    a, b, other = threading.Lock(), threading.RLock(), cast.thread("other")
    return report("cycle", wait(cast.me, "RLock", b, other), wait(other, "Lock", a, cast.me))


@expects("""
    5 threads wait for each other in a circle
      Thread "p0"  holds forks[0] (Lock)  waits for forks[1] (Lock)
      Thread "p1"  holds forks[1] (Lock)  waits for forks[2] (Lock)
      Thread "p2"  holds forks[2] (Lock)  waits for forks[3] (Lock)
      Thread "p3"  holds forks[3] (Lock)  waits for forks[4] (Lock)
      Thread "p4"  holds forks[4] (Lock)  waits for forks[0] (Lock)
    hint: take the locks in one order in every thread: `forks[0]`, `forks[1]`, `forks[2]`, `forks[3]`, `forks[4]`
""")
def philosophers(cast: Cast) -> str:
    forks = [threading.Lock() for _ in range(5)]
    seats = [cast.thread(f"p{i}") for i in range(5)]
    return report("cycle", *(wait(seats[i], "Lock", forks[(i + 1) % 5], seats[(i + 1) % 5]) for i in range(5)))


@expects("""
    14 threads wait for each other in a circle
      Thread "t0"   holds ring[0]  (Lock)  waits for ring[1]  (Lock)
      Thread "t1"   holds ring[1]  (Lock)  waits for ring[2]  (Lock)
      Thread "t2"   holds ring[2]  (Lock)  waits for ring[3]  (Lock)
      Thread "t3"   holds ring[3]  (Lock)  waits for ring[4]  (Lock)
      Thread "t4"   holds ring[4]  (Lock)  waits for ring[5]  (Lock)
      Thread "t5"   holds ring[5]  (Lock)  waits for ring[6]  (Lock)
      Thread "t6"   holds ring[6]  (Lock)  waits for ring[7]  (Lock)
      Thread "t7"   holds ring[7]  (Lock)  waits for ring[8]  (Lock)
      Thread "t8"   holds ring[8]  (Lock)  waits for ring[9]  (Lock)
      Thread "t9"   holds ring[9]  (Lock)  waits for ring[10] (Lock)
      Thread "t10"  holds ring[10] (Lock)  waits for ring[11] (Lock)
      Thread "t11"  holds ring[11] (Lock)  waits for ring[12] (Lock)
      ... and 2 more
    hint: take the locks in one order in every thread: `ring[0]`, `ring[1]`, `ring[2]`, `ring[3]`, `ring[4]`, `ring[5]`, ...
""")
def long_ring(cast: Cast) -> str:
    ring = [threading.Lock() for _ in range(14)]
    threads = [cast.thread(f"t{i}") for i in range(14)]
    return report("cycle", *(wait(threads[i], "Lock", ring[(i + 1) % 14], threads[(i + 1) % 14]) for i in range(14)))


@expects("""
    2 threads wait for each other
      Thread "x"  holds Lock at 0x0 (Lock)  waits for Lock at 0x0 (Lock)
      Thread "y"  holds Lock at 0x0 (Lock)  waits for Lock at 0x0 (Lock)
    hint: take the locks in one order in every thread, for example sorted by `id()`
""")
def nameless_locks(cast: Cast) -> str:
    hidden = iter([threading.Lock(), threading.Lock()])
    x, y = cast.thread("x"), cast.thread("y")
    return report("cycle", wait(x, "Lock", next(hidden), y), wait(y, "Lock", next(hidden), x))


@expects("""
    2 threads wait for each other
      Thread "MainThread"  waits for the end of Thread "b"          (Thread.join, here.py:N)
      Thread "b"           waits for the end of Thread "MainThread" (Thread.join)
    hint: let one of them finish without joining the other
""")
def two_joins(cast: Cast) -> str:
    b = cast.thread("b")
    return report("cycle", wait(cast.me, "Thread.join", b, b), wait(b, "Thread.join", cast.me, cast.me))


@expects("""
    3 threads wait for each other in a circle
      Thread "a"  waits for the end of Thread "b" (Thread.join)
      Thread "b"  waits for the end of Thread "c" (Thread.join)
      Thread "c"  waits for the end of Thread "a" (Thread.join)
    hint: let one of them finish without joining the next
""")
def three_joins(cast: Cast) -> str:
    a, b, c = (cast.thread(name) for name in "abc")
    return report("cycle", *(wait(x, "Thread.join", y, y) for x, y in ((a, b), (b, c), (c, a))))


@expects("""
    2 threads wait for each other
      Thread "MainThread"  holds lock (Lock)  waits for the end of Thread "b" (Thread.join, here.py:N)
      Thread "b"                              waits for lock                  (Lock)
    hint: release `lock` before waiting for the end of a thread that needs it
""")
def join_with_lock(cast: Cast) -> str:
    lock, b = threading.Lock(), cast.thread("b")
    return report("cycle", wait(cast.me, "Thread.join", b, b), wait(b, "Lock", lock, cast.me))


@expects("""
    2 threads wait for each other
      Thread "MainThread"  holds lock (Lock)  waits for the result of task (Future.result, runs in Thread "b", here.py:N)
      Thread "b"           runs task          waits for lock               (Lock)
    hint: release `lock` before waiting for a task that needs it
""")
def result_with_lock(cast: Cast) -> str:
    lock, b, task = threading.Lock(), cast.thread("b"), concurrent.futures.Future[int]()
    return report("cycle", wait(cast.me, "Future.result", task, b), wait(b, "Lock", lock, cast.me))


@expects("""
    2 threads wait for each other
      Thread "x"  runs first   waits for the result of second (Future.result, runs in Thread "y")
      Thread "y"  runs second  waits for the result of first  (Future.result, runs in Thread "x")
    hint: let one of the tasks finish without waiting for the others
""")
def results_of_each_other(cast: Cast) -> str:
    first, second = concurrent.futures.Future[int](), concurrent.futures.Future[int]()
    x, y = cast.thread("x"), cast.thread("y")
    return report("cycle", wait(x, "Future.result", second, y), wait(y, "Future.result", first, x))


@expects("""
    both threads are asleep and nobody is left to wake them
      Thread "consumer"    holds master (Lock)  waits for an item from jobs (Queue.get)
      Thread "MainThread"                       waits for master            (Lock, here.py:N)
    hint: do not wait on a queue while holding a lock: release `master` first
""")
def consumer_holds_the_master_lock(cast: Cast) -> str:
    jobs, master, consumer = queue.Queue[int](), threading.Lock(), cast.thread("consumer")
    return report("asleep", wait(consumer, "Queue.get", jobs), wait(cast.me, "Lock", master, consumer))


@expects("""
    both threads are asleep and nobody is left to wake them
      Thread "w"           holds lock (Lock)  waits for ready to be set (Event)
      Thread "MainThread"                     waits for lock            (Lock, here.py:N)
    hint: do not wait while holding a lock that the other side needs: release `lock` first
""")
def event_with_lock(cast: Cast) -> str:
    ready, lock, w = threading.Event(), threading.Lock(), cast.thread("w")
    return report("asleep", wait(w, "Event", ready), wait(cast.me, "Lock", lock, w))


@expects("""
    all 3 threads are asleep and nobody is left to wake them
      Thread "MainThread"              waits for the end of Thread "worker" (Thread.join, here.py:N)
      Thread "worker"                  waits for lock                       (Lock, taken at gone.py:2 by Thread "careless")
      Thread "ThreadPoolExecutor-0_0"  waits for work                       (idle worker of a pool)
    hint: release `lock` on every path, best with `with lock:`
""")
def lock_left_taken(cast: Cast) -> str:
    lock, careless = threading.Lock(), cast.ended("careless")
    worker, idle = cast.thread("worker"), cast.thread("ThreadPoolExecutor-0_0")
    taken = line_of(compile("\nlock.acquire()", "/srv/gone.py", "exec"), 2)
    rest = wait(idle, "Executor idle")
    join = wait(cast.me, "Thread.join", worker, worker)
    return report("asleep", rest, join, wait(worker, "Lock", lock, careless, taken=taken))


@expects("""
    the last thread is asleep and nobody is left to wake it
      Thread "w"  waits for gate (Lock, taken at gone.py:2)
    hint: release `gate` on every path, best with `with gate:`
""")
def lock_taken_by_nobody_known(cast: Cast) -> str:
    gate = threading.Lock()
    taken = line_of(compile("\ngate.acquire()", "gone.py", "exec"), 2)
    return report("asleep", wait(cast.thread("w"), "Lock", gate, taken=taken))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  waits for an item from jobs (Queue.get, here.py:N)
    hint: send one sentinel (for example None) per consumer, or use `jobs.shutdown()`
""")
def queue_get(cast: Cast) -> str:
    jobs = queue.Queue[int]()
    return report("asleep", wait(cast.me, "Queue.get", jobs))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  waits for an item from letters (SimpleQueue.get, here.py:N)
    hint: send one sentinel (for example None) per consumer
""")
def simple_queue_get(cast: Cast) -> str:
    letters = queue.SimpleQueue[int]()
    return report("asleep", wait(cast.me, "SimpleQueue.get", letters))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  waits for room in jobs (Queue.put, maxsize 3, here.py:N)
    hint: start what takes from `jobs` before filling it, and keep it alive until the last `put()`
""")
def queue_put(cast: Cast) -> str:
    jobs = queue.Queue[int](3)
    return report("asleep", wait(cast.me, "Queue.put", jobs))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  waits for room in Queue at 0x0 (Queue.put, maxsize 3, here.py:N)
    hint: start what takes from the queue before filling it, and keep it alive until the last `put()`
""")
def nameless_queue(cast: Cast) -> str:
    return report("asleep", wait(cast.me, "Queue.put", next(iter([queue.Queue[int](3)]))))


@expects("""
    both threads are asleep and nobody is left to wake them
      Thread "MainThread"  waits for 2 unfinished tasks of jobs (Queue.join, here.py:N)
      Thread "w"           waits for an item from jobs          (Queue.get)
    hint: call `task_done()` once for each `get()`, in a `finally`
""")
def queue_join(cast: Cast) -> str:
    jobs, w = queue.Queue[int](), cast.thread("w")
    jobs.put(1)
    jobs.put(2)
    return report("asleep", wait(cast.me, "Queue.join", jobs), wait(w, "Queue.get", jobs))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  waits for 1 unfinished task of jobs (Queue.join, here.py:N)
    hint: call `task_done()` once for each `get()`, in a `finally`
""")
def queue_join_of_one(cast: Cast) -> str:
    jobs = queue.Queue[int]()
    jobs.put(1)
    return report("asleep", wait(cast.me, "Queue.join", jobs))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  waits for the unfinished tasks of jobs (Queue.join, here.py:N)
    hint: call `task_done()` once for each `get()`, in a `finally`
""")
def queue_join_uncounted(cast: Cast) -> str:
    jobs = object()
    return report("asleep", wait(cast.me, "Queue.join", jobs))


@expects("""
    both threads are asleep and nobody is left to wake them
      Thread "MainThread"  has finished; the interpreter waits for Thread "consumer" to end
      Thread "consumer"    waits for an item from jobs (Queue.get)
    hint: send one sentinel (for example None) per consumer, or use `jobs.shutdown()`
""")
def consumer_without_end(cast: Cast) -> str:
    jobs, consumer = queue.Queue[int](), cast.thread("consumer")
    return report("asleep", wait(cast.me, "shutdown", consumer, consumer), wait(consumer, "Queue.get", jobs))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  has finished; the interpreter waits for the other threads to end
""")
def shutdown_of_unknown(cast: Cast) -> str:
    return report("asleep", wait(cast.me, "shutdown"))


@expects("""
    both threads are asleep and nobody is left to wake them
      Thread "MainThread"  waits for the end of Thread "w" (Thread.join, here.py:N)
      Thread "w"           waits for a notify of has_stock (Condition)
    hint: test the state with `wait_for` while holding the lock, and notify after changing it
""")
def lost_notify(cast: Cast) -> str:
    has_stock, w = threading.Condition(), cast.thread("w")
    return report("asleep", wait(cast.me, "Thread.join", w, w), wait(w, "Condition", has_stock))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  waits for started to be set (Event, here.py:N)
    hint: call `set()` on every path of the thread that is waited for, for example in a `finally`
""")
def event_never_set(cast: Cast) -> str:
    started = threading.Event()
    return report("asleep", wait(cast.me, "Event", started))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  waits for a permit of slots (Semaphore, here.py:N)
    hint: give each permit back on every path, best with `with slots:`
""")
def permit_lost(cast: Cast) -> str:
    slots = threading.Semaphore(0)
    return report("asleep", wait(cast.me, "Semaphore", slots))


@expects("""
    both threads are asleep and nobody is left to wake them
      Thread "MainThread"  waits at meeting (Barrier, 2 of 3 parties arrived, here.py:N)
      Thread "w"           waits at meeting (Barrier, 2 of 3 parties arrived)
    hint: the barrier has 3 parties but only 2 threads come to it: make the numbers equal, and let a party that gives up call `abort()`
""")
def barrier_short_of_one(cast: Cast) -> str:
    meeting, w = threading.Barrier(3), cast.thread("w")
    return report("asleep", wait(cast.me, "Barrier", meeting), wait(w, "Barrier", meeting))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  waits at meeting (Barrier, 1 of 2 parties arrived, here.py:N)
    hint: the barrier has 2 parties but only 1 thread comes to it: make the numbers equal, and let a party that gives up call `abort()`
""")
def barrier_alone(cast: Cast) -> str:
    meeting = threading.Barrier(2)
    return report("asleep", wait(cast.me, "Barrier", meeting))


@expects("""
    both threads are asleep and nobody is left to wake them
      Thread "MainThread"                          waits for the result of outer (Future.result, runs in Thread "ThreadPoolExecutor-7_0", here.py:N)
      Thread "ThreadPoolExecutor-7_0"  runs outer  waits for the result of inner (Future.result, not started: the only worker of the pool is busy)
    hint: give the pool more workers, or do not wait inside a task for another task of the same pool
""")
def task_waits_in_its_own_pool(cast: Cast) -> str:
    outer, inner = concurrent.futures.Future[int](), concurrent.futures.Future[int]()
    worker = cast.thread("ThreadPoolExecutor-7_0")
    return report("asleep", wait(cast.me, "Future.result", outer, worker), wait(worker, "Future.result", inner))


@expects("""
    both threads are asleep and nobody is left to wake them
      Thread "pool_0"  runs a  waits for the result of b (Future.result, not started: all 2 workers of the pool are busy)
      Thread "pool_1"          waits for the result of a (Future.result, runs in Thread "pool_0")
    hint: give the pool more workers, or do not wait inside a task for another task of the same pool
""")
def pool_of_two_is_busy(cast: Cast) -> str:
    a, b = concurrent.futures.Future[int](), concurrent.futures.Future[int]()
    first, second = cast.thread("pool_0"), cast.thread("pool_1")
    return report("asleep", wait(first, "Future.result", b), wait(second, "Future.result", a, first))


@expects("""
    the main thread is asleep and nobody is left to wake it
      Thread "MainThread"  waits for the result of promise (Future.result, not started, here.py:N)
    hint: whoever made the future must call `set_result()` or `set_exception()` on every path
""")
def future_never_set(cast: Cast) -> str:
    promise = concurrent.futures.Future[int]()
    return report("asleep", wait(cast.me, "Future.result", promise))


@expects("""
    the owner of table has ended without releasing it
      Thread "MainThread"  waits for table (RLock, here.py:N, taken at gone.py:2 by Thread "hasty")
    hint: release `table` before the thread ends, best with `with table:`
""")
def owner_ended(cast: Cast) -> str:
    table, hasty = threading.RLock(), cast.ended("hasty")
    taken = line_of(compile("\ntable.acquire()", "/srv/gone.py", "exec"), 2)
    return report("orphan", wait(cast.me, "RLock", table, hasty, taken=taken))


@expects("""
    the owner of table has ended without releasing it
      Thread "MainThread"  waits for table (RLock, here.py:N, taken at gone.py:2 by a thread that has ended)
    hint: release `table` before the thread ends, best with `with table:`
""")
def unknown_owner_ended(cast: Cast) -> str:
    table = threading.RLock()
    taken = line_of(compile("\ntable.acquire()", "/srv/gone.py", "exec"), 2)
    return report("orphan", wait(cast.me, "RLock", table, owner=None, taken=taken) | {"owner": 1})


@expects("""
    the owner of the_lock did not survive fork
      Thread "MainThread"  waits for the_lock (Lock, here.py:N)
    hint: hold no lock across `fork`: fork before starting threads, or use the `spawn` start method
""")
def owner_lost_in_fork(cast: Cast) -> str:
    the_lock = threading.Lock()
    return report("orphan", wait(cast.me, "Lock", the_lock, owner_alive=False, forked=True))


@expects("""
    a wait that can never end
""")
def nothing_known(_cast: Cast) -> str:
    return report("asleep")


@expects("""
    a wait that can never end
      Thread 0             waits for some Lock (Lock)
      Thread "MainThread"  waits for odd       (Nap, here.py:N)
    hint: release the lock on every path, best with `with lock:`
""")
def unheard_of(cast: Cast) -> str:
    odd = object()
    return report("new", {"kind": "Lock"}, wait(cast.me, "Nap", odd, cast.me))


@expects("""
    2 threads wait for each other
      Thread "x"  holds left  (Lock)  waits for right (Lock, meet.py:1)
      Thread "y"  holds right (Lock)  waits for left  (Lock, meet.py:1)
    hint: take `left` before `right` in every thread
""")
def same_line(cast: Cast) -> str:
    left, right = threading.Lock(), threading.Lock()
    meet = cast.program("def meet(): rest()", "meet.py")["meet"]
    x, y = cast.thread("x", meet), cast.thread("y", meet)
    return report("cycle", wait(x, "Lock", right, y), wait(y, "Lock", left, x))


@pytest.fixture
def cast() -> Any:
    found = Cast()
    yield found
    found.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_report_reads(name: str, cast: Cast) -> None:
    scenario, expected = SCENARIOS[name]
    assert masked(scenario(cast)) == expected


def test_every_text_stands_in_some_report(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    used: set[str] = set()

    class Noting(dict[str, str]):
        def __getitem__(self, key: str) -> str:
            used.add(key)
            return super().__getitem__(key)

    monkeypatch.setattr(_waits, "DEADLOCK_TEXTS", Noting(errors.DEADLOCK_TEXTS))
    for scenario, _ in SCENARIOS.values():
        cast = Cast()
        scenario(cast)
        cast.close()
    deadlock.describe(snapshot("asleep"))
    assert used == set(errors.DEADLOCK_TEXTS)
    capfd.readouterr()


def test_texts_are_ascii_and_end_without_a_stop() -> None:
    for key, text in errors.DEADLOCK_TEXTS.items():
        assert text.isascii(), key
        assert not text.endswith((".", "!")), key


def test_every_first_line_is_explained_in_the_guide() -> None:
    guide = DOCS.read_text()
    heads = [text for key, text in errors.DEADLOCK_TEXTS.items() if key.startswith("head.")]
    assert heads
    for head in heads:
        assert head.format(n="N", name="NAME") in guide


def test_every_kind_of_wait_is_in_the_guide() -> None:
    guide = DOCS.read_text()
    kinds = {key.removeprefix("wait.") for key in errors.DEADLOCK_TEXTS if key.startswith("wait.")}
    for kind in kinds - {"Executor idle", "shutdown", "other", "Queue.join.counted", "Queue.join.one"}:
        assert f"`{kind}`" in guide


def test_printed_report(cast: Cast, capfd: pytest.CaptureFixture[str]) -> None:
    started = threading.Event()
    text = deadlock.describe(snapshot("asleep", wait(cast.me, "Event", started)))
    assert capfd.readouterr().err == text
    assert text.startswith("phalanx.DeadlockError (reported, not raised): the main thread is asleep")
    assert text.endswith("in a `finally`\n")
