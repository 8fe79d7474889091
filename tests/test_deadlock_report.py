"""The words of a deadlock report: each text of the table in at least one report, and the reports in full."""

from __future__ import annotations

import concurrent.futures
import queue
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from phalanx import _waits, deadlock, errors

REPORTS = Path(__file__).with_name("deadlock_reports.txt")


class Cast:
    """Threads that sleep until the test is over, and snapshots in which they and the test's own thread play."""

    def __init__(self) -> None:
        self.me = threading.current_thread()
        self.threads: list[threading.Thread] = []
        self._curtain = threading.Event()
        self._arrived = threading.Semaphore(0)
        # `rest` is in a module that counts as machinery, so the program's own frame is the innermost one.
        self._stage: dict[str, Any] = {
            "__name__": "threading.stage",
            "curtain": self._curtain,
            "arrived": self._arrived,
        }
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
        """A thread that has ended, and the only one of its ident that is remembered: then its name is certain."""
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
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Register a function that returns a report. What it must read like stands in `deadlock_reports.txt`."""
    SCENARIOS[function.__name__] = function
    return function


def report(cause: str, *waits: dict[str, Any]) -> str:
    reports = map(deadlock.build_error, [snapshot(cause, *waits)])
    del waits  # otherwise an object that has no name is found here
    return str(next(reports))


@scenario
def lock_taken_again(cast: Cast) -> str:
    lock = threading.Lock()
    return report("cycle", wait(cast.me, "Lock", lock, cast.me))


@scenario
def lock_acquired_again(cast: Cast) -> str:
    lock = threading.Lock()
    return report("asleep", wait(cast.me, "Lock", lock, cast.me))


@scenario
def queue_used_under_its_mutex(cast: Cast) -> str:
    jobs = queue.Queue[int]()
    return report("cycle", wait(cast.me, "Lock", jobs.mutex, cast.me))


@scenario
def own_result(cast: Cast) -> str:
    answer = concurrent.futures.Future[int]()
    return report("cycle", wait(cast.me, "Future.result", answer, cast.me))


@scenario
def opposite_order(cast: Cast) -> str:
    a, b, other = threading.Lock(), threading.RLock(), cast.thread("other")
    return report("cycle", wait(cast.me, "RLock", b, other), wait(other, "Lock", a, cast.me))


@scenario
def philosophers(cast: Cast) -> str:
    forks = [threading.Lock() for _ in range(5)]
    seats = [cast.thread(f"p{i}") for i in range(5)]
    return report("cycle", *(wait(seats[i], "Lock", forks[(i + 1) % 5], seats[(i + 1) % 5]) for i in range(5)))


@scenario
def long_ring(cast: Cast) -> str:
    ring = [threading.Lock() for _ in range(14)]
    threads = [cast.thread(f"t{i}") for i in range(14)]
    return report("cycle", *(wait(threads[i], "Lock", ring[(i + 1) % 14], threads[(i + 1) % 14]) for i in range(14)))


@scenario
def nameless_locks(cast: Cast) -> str:
    hidden = iter([threading.Lock(), threading.Lock()])
    x, y = cast.thread("x"), cast.thread("y")
    return report("cycle", wait(x, "Lock", next(hidden), y), wait(y, "Lock", next(hidden), x))


@scenario
def two_joins(cast: Cast) -> str:
    b = cast.thread("b")
    return report("cycle", wait(cast.me, "Thread.join", b, b), wait(b, "Thread.join", cast.me, cast.me))


@scenario
def three_joins(cast: Cast) -> str:
    a, b, c = (cast.thread(name) for name in "abc")
    return report("cycle", *(wait(x, "Thread.join", y, y) for x, y in ((a, b), (b, c), (c, a))))


@scenario
def join_with_lock(cast: Cast) -> str:
    lock, b = threading.Lock(), cast.thread("b")
    return report("cycle", wait(cast.me, "Thread.join", b, b), wait(b, "Lock", lock, cast.me))


@scenario
def result_with_lock(cast: Cast) -> str:
    lock, b, task = threading.Lock(), cast.thread("b"), concurrent.futures.Future[int]()
    return report("cycle", wait(cast.me, "Future.result", task, b), wait(b, "Lock", lock, cast.me))


@scenario
def results_of_each_other(cast: Cast) -> str:
    first, second = concurrent.futures.Future[int](), concurrent.futures.Future[int]()
    x, y = cast.thread("x"), cast.thread("y")
    return report("cycle", wait(x, "Future.result", second, y), wait(y, "Future.result", first, x))


@scenario
def consumer_holds_the_master_lock(cast: Cast) -> str:
    jobs, master, consumer = queue.Queue[int](), threading.Lock(), cast.thread("consumer")
    return report("asleep", wait(consumer, "Queue.get", jobs), wait(cast.me, "Lock", master, consumer))


@scenario
def event_with_lock(cast: Cast) -> str:
    ready, lock, w = threading.Event(), threading.Lock(), cast.thread("w")
    return report("asleep", wait(w, "Event", ready), wait(cast.me, "Lock", lock, w))


@scenario
def lock_left_taken(cast: Cast) -> str:
    lock, careless = threading.Lock(), cast.ended("careless")
    worker, idle = cast.thread("worker"), cast.thread("ThreadPoolExecutor-0_0")
    taken = line_of(compile("\nlock.acquire()", "/srv/gone.py", "exec"), 2)
    rest = wait(idle, "Executor idle")
    join = wait(cast.me, "Thread.join", worker, worker)
    return report("asleep", rest, join, wait(worker, "Lock", lock, careless, taken=taken))


@scenario
def lock_taken_by_nobody_known(cast: Cast) -> str:
    gate = threading.Lock()
    taken = line_of(compile("\ngate.acquire()", "gone.py", "exec"), 2)
    return report("asleep", wait(cast.thread("w"), "Lock", gate, taken=taken))


@scenario
def queue_get(cast: Cast) -> str:
    jobs = queue.Queue[int]()
    return report("asleep", wait(cast.me, "Queue.get", jobs))


@scenario
def simple_queue_get(cast: Cast) -> str:
    letters = queue.SimpleQueue[int]()
    return report("asleep", wait(cast.me, "SimpleQueue.get", letters))


@scenario
def queue_put(cast: Cast) -> str:
    jobs = queue.Queue[int](3)
    return report("asleep", wait(cast.me, "Queue.put", jobs))


@scenario
def nameless_queue(cast: Cast) -> str:
    return report("asleep", wait(cast.me, "Queue.put", next(iter([queue.Queue[int](3)]))))


@scenario
def queue_join(cast: Cast) -> str:
    jobs, w = queue.Queue[int](), cast.thread("w")
    jobs.put(1)
    jobs.put(2)
    return report("asleep", wait(cast.me, "Queue.join", jobs), wait(w, "Queue.get", jobs))


@scenario
def queue_join_of_one(cast: Cast) -> str:
    jobs = queue.Queue[int]()
    jobs.put(1)
    return report("asleep", wait(cast.me, "Queue.join", jobs))


@scenario
def queue_join_uncounted(cast: Cast) -> str:
    jobs = object()
    return report("asleep", wait(cast.me, "Queue.join", jobs))


@scenario
def consumer_without_end(cast: Cast) -> str:
    jobs, consumer = queue.Queue[int](), cast.thread("consumer")
    return report("asleep", wait(cast.me, "shutdown", consumer, consumer), wait(consumer, "Queue.get", jobs))


@scenario
def shutdown_of_unknown(cast: Cast) -> str:
    return report("asleep", wait(cast.me, "shutdown"))


@scenario
def lost_notify(cast: Cast) -> str:
    has_stock, w = threading.Condition(), cast.thread("w")
    return report("asleep", wait(cast.me, "Thread.join", w, w), wait(w, "Condition", has_stock))


@scenario
def event_never_set(cast: Cast) -> str:
    started = threading.Event()
    return report("asleep", wait(cast.me, "Event", started))


@scenario
def permit_lost(cast: Cast) -> str:
    slots = threading.Semaphore(0)
    return report("asleep", wait(cast.me, "Semaphore", slots))


@scenario
def barrier_short_of_one(cast: Cast) -> str:
    meeting, w = threading.Barrier(3), cast.thread("w")
    return report("asleep", wait(cast.me, "Barrier", meeting), wait(w, "Barrier", meeting))


@scenario
def barrier_and_a_thread_woken_meanwhile(cast: Cast) -> str:
    meeting, w = threading.Barrier(3), cast.thread("w")
    return report("asleep", wait(cast.me, "Barrier", meeting), wait(w, "Barrier"))


@scenario
def barrier_alone(cast: Cast) -> str:
    meeting = threading.Barrier(2)
    return report("asleep", wait(cast.me, "Barrier", meeting))


@scenario
def task_waits_in_its_own_pool(cast: Cast) -> str:
    outer, inner = concurrent.futures.Future[int](), concurrent.futures.Future[int]()
    worker = cast.thread("ThreadPoolExecutor-7_0")
    return report("asleep", wait(cast.me, "Future.result", outer, worker), wait(worker, "Future.result", inner))


@scenario
def pool_of_two_is_busy(cast: Cast) -> str:
    a, b = concurrent.futures.Future[int](), concurrent.futures.Future[int]()
    first, second = cast.thread("pool_0"), cast.thread("pool_1")
    return report("asleep", wait(first, "Future.result", b), wait(second, "Future.result", a, first))


@scenario
def future_never_set(cast: Cast) -> str:
    promise = concurrent.futures.Future[int]()
    return report("asleep", wait(cast.me, "Future.result", promise))


@scenario
def owner_ended(cast: Cast) -> str:
    table, hasty = threading.RLock(), cast.ended("hasty")
    taken = line_of(compile("\ntable.acquire()", "/srv/gone.py", "exec"), 2)
    return report("orphan", wait(cast.me, "RLock", table, hasty, taken=taken))


@scenario
def unknown_owner_ended(cast: Cast) -> str:
    table = threading.RLock()
    taken = line_of(compile("\ntable.acquire()", "/srv/gone.py", "exec"), 2)
    return report("orphan", wait(cast.me, "RLock", table, owner=None, taken=taken) | {"owner": 1})


@scenario
def owner_lost_in_fork(cast: Cast) -> str:
    the_lock = threading.Lock()
    return report("orphan", wait(cast.me, "Lock", the_lock, owner_alive=False, forked=True))


@scenario
def owner_of_a_plain_lock_lost_in_fork(cast: Cast) -> str:
    the_lock = threading.Lock()
    taken = line_of(compile("\nthe_lock.acquire()", "/srv/gone.py", "exec"), 2)
    return report("asleep", wait(cast.me, "Lock", the_lock, owner_alive=False, forked=True, taken=taken))


@scenario
def places_wider_than_a_column(cast: Cast) -> str:
    lock, b = threading.Lock(), cast.thread("b")
    taken = line_of(compile("\nlock.acquire()", f"/srv/{'long' * 20}.py", "exec"), 2)
    return report("cycle", wait(cast.me, "Thread.join", b, b), wait(b, "Lock", lock, cast.me, taken=taken))


@scenario
def nothing_known(_cast: Cast) -> str:
    return report("asleep")


@scenario
def unheard_of(cast: Cast) -> str:
    odd = object()
    return report("new", {"kind": "Lock"}, wait(cast.me, "Nap", odd, cast.me))


@scenario
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


def expected_reports() -> dict[str, str]:
    _, *parts = re.split(r"^\[(\w+)\]\n", REPORTS.read_text(encoding="ascii"), flags=re.MULTILINE)
    return {name: text.strip("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.parametrize("name", SCENARIOS)
def test_report_reads(name: str, cast: Cast) -> None:
    assert masked(SCENARIOS[name](cast)) == expected_reports()[name]


def test_every_expected_report_has_its_scenario() -> None:
    assert list(expected_reports()) == list(SCENARIOS)


def test_every_text_stands_in_some_report(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    used: set[str] = set()

    class Noting(dict[str, str]):
        def __getitem__(self, key: str) -> str:
            used.add(key)
            return super().__getitem__(key)

    monkeypatch.setattr(_waits, "DEADLOCK_TEXTS", Noting(errors.DEADLOCK_TEXTS))
    for make in SCENARIOS.values():
        cast = Cast()
        make(cast)
        cast.close()
    deadlock.describe(snapshot("asleep"))
    assert used == set(errors.DEADLOCK_TEXTS)
    capfd.readouterr()
