"""Every kind of wait that can never end, alone and in company: one error, in time, with every name and place."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import NamedTuple

import pytest
from tests.programs import run

# `check` is given the one error. Every thread of the program goes through `attempt`, which notes the error it gets.
TOOLS = """\
import re, _thread, concurrent.futures as futures
told = []
def attempt(step, *arguments):
    try: step(*arguments)
    except phalanx.DeadlockError as error: told.append((threading.current_thread().name, error))
    except threading.BrokenBarrierError: pass
def launch(**steps):
    threads = [threading.Thread(target=attempt, args=(step,), name=name) for name, step in steps.items()]
    for thread in threads: thread.start()
    return threads
def check(cause, kinds):
    assert len(told) == 1, told
    (name, error), = told
    text = str(error)
    assert (error.cause, {thread.name: thread.kind for thread in error.threads}) == (cause, kinds), error.threads
    for thread in error.threads:
        assert f'"{thread.name}"' in text, text
        assert re.fullmatch(r"<string>:\\d+", thread.waits_at), thread
        assert thread.waits_at in text, text
    assert name in kinds and error.hint and error.hint in text
    print("one error in", name)
    told.clear()
"""


class Case(NamedTuple):
    """What is made, the wait of the main thread, and how the report calls that."""

    make: str
    wait: str
    kind: str
    after: str = ""


FOREIGN = """class Foreign:
    def __init__(self): self._inner = threading.Lock()
    def acquire(self, *arguments): return self._inner.acquire(*arguments)
    def release(self): self._inner.release()
    def __enter__(self): return self.acquire()
    def __exit__(self, *error): self.release()
condition = threading.Condition(Foreign())"""
FULL = "q = queue.{}(1); q.put(1)"
OPEN = "; q.mutex"
HOOKED = """class Hooked(queue.Queue):
    def _put(self, item): self.queue.append(item)
q = Hooked(1)"""
GET = "q.put(1); q.get(); q.task_done()"
ONE_CONDITION = "with condition: condition.wait()"
RETAKEN = "assert condition.acquire(False); condition.release()"

ALONE = {
    "condition": Case("condition = threading.Condition()", ONE_CONDITION, "Condition", RETAKEN),
    "condition over a Lock": Case(
        "condition = threading.Condition(threading.Lock())", ONE_CONDITION, "Condition", RETAKEN
    ),
    "condition over a foreign lock": Case(FOREIGN, ONE_CONDITION, "Condition", RETAKEN),
    "wait_for": Case(
        "condition = threading.Condition()", "with condition: condition.wait_for(list)", "Condition", RETAKEN
    ),
    "semaphore": Case(
        "semaphore = threading.Semaphore(0)",
        "semaphore.acquire()",
        "Semaphore",
        "assert semaphore._value == 0; semaphore.release(); semaphore.acquire()",
    ),
    "bounded semaphore": Case(
        "semaphore = threading.BoundedSemaphore(1); semaphore.acquire()",
        "with semaphore: pass",
        "Semaphore",
        "semaphore.release()",
    ),
    "event": Case("event = threading.Event()", "event.wait()", "Event", "assert not event.is_set()"),
    "barrier": Case("barrier = threading.Barrier(2)", "barrier.wait()", "Barrier", "assert barrier.broken"),
    "Queue.get": Case("q = queue.Queue()", "q.get()", "Queue.get", GET),
    "Queue.put": Case(FULL.format("Queue"), "q.put(2)", "Queue.put", "assert q.get() == 1 and q.empty()"),
    "Queue.join": Case(
        FULL.format("Queue"), "q.join()", "Queue.join", "assert q.unfinished_tasks == 1; q.task_done(); q.join()"
    ),
    "LifoQueue.get": Case("q = queue.LifoQueue()", "q.get()", "Queue.get", GET),
    "LifoQueue.put": Case(FULL.format("LifoQueue"), "q.put(2)", "Queue.put", "assert q.get() == 1"),
    "PriorityQueue.get": Case("q = queue.PriorityQueue()", "q.get()", "Queue.get", GET),
    "PriorityQueue.put": Case(FULL.format("PriorityQueue"), "q.put(2)", "Queue.put", "assert q.get() == 1"),
    "open get": Case("q = queue.Queue()" + OPEN, "q.get()", "Condition", GET),
    "open put": Case(FULL.format("PriorityQueue") + OPEN, "q.put(2)", "Condition", "assert q.get() == 1"),
    "open join": Case(FULL.format("LifoQueue") + OPEN, "q.join()", "Condition", "q.task_done(); q.join()"),
    "queue with hooks": Case(HOOKED, "q.get()", "Condition", GET),
    "SimpleQueue.get": Case(
        "q = queue.SimpleQueue()", "q.get()", "SimpleQueue.get", "q.put(1); assert q.get() == 1 and q.empty()"
    ),
    "result": Case(
        "future = futures.Future()", "future.result()", "Future.result", "future.set_result(1); future.result()"
    ),
    "exception": Case("future = futures.Future()", "future.exception()", "Future.result", "assert not future.done()"),
    "wait": Case(
        "future = futures.Future()", "futures.wait([future])", "Event", "assert not future._waiters; future.cancel()"
    ),
    "as_completed": Case(
        "future = futures.Future()", "list(futures.as_completed([future]))", "Event", "assert not future._waiters"
    ),
    "lock": Case("lock = threading.Lock(); lock.acquire()", "lock.acquire()", "Lock", "lock.release()"),
    "lock of an ended thread": Case(
        "lock = threading.Lock(); [thread] = launch(gone=lock.acquire); thread.join()",
        "lock.acquire()",
        "Lock",
        "assert lock.locked()",
    ),
}


ROUNDS = """\
for names in [], ["second"]:
    def main():
{wait}
    go = threading.Event()
{make}
    others = launch(**dict.fromkeys(names, go.wait))
    attempt(main)
    check("asleep", dict.fromkeys(names, "Event") | {{"MainThread": {kind!r}}})
    assert all(thread.is_alive() for thread in others)
    go.set()
    for thread in others: thread.join()
{after}
"""


@pytest.mark.parametrize("name", list(ALONE))
def test_all_asleep_alone_and_in_company(name: str) -> None:
    # Of all that are in an ordinary wait the main thread is the oldest, so it is told; the others sleep on.
    case = ALONE[name]
    make, after = (textwrap.indent(text, "    ") for text in (case.make, case.after))
    program = ROUNDS.format(wait=" " * 8 + case.wait, make=make, kind=case.kind, after=after)
    assert run(TOOLS + program, deadline=5) == (0, "one error in MainThread\n" * 2, "")


# Name: the program up to its check, the cause, the kind of each thread's wait, and who is told.
MIXED: dict[str, tuple[str, str, dict[str, str], str]] = {
    "two that join each other": (
        """
        a, b = launch(a=lambda: (go.wait(), b.join()), b=lambda: (go.wait(), a.join()))
        go.set(); a.join(); b.join()
        """,
        "cycle",
        {"a": "Thread.join", "b": "Thread.join"},
        "ab",
    ),
    "three that join each other": (
        """
        a, b, c = launch(
            a=lambda: (go.wait(), b.join()), b=lambda: (go.wait(), c.join()), c=lambda: (go.wait(), a.join()))
        go.set(); a.join(); b.join(); c.join()
        """,
        "cycle",
        {"a": "Thread.join", "b": "Thread.join", "c": "Thread.join"},
        "abc",
    ),
    "one that joins the main thread": (
        "main = threading.current_thread(); [a] = launch(a=main.join); attempt(a.join)",
        "cycle",
        {"a": "Thread.join", "MainThread": "Thread.join"},
        "aMainThread",
    ),
    "join of a sleeper": (
        "[a] = launch(a=go.wait); attempt(a.join); a.join()",
        "asleep",
        {"a": "Event", "MainThread": "Thread.join"},
        "a",
    ),
    "join with the lock that the other wants": (
        """
        lock, [a] = threading.Lock(), launch(a=lambda: (go.wait(), lock.acquire(), lock.release()))
        def main():
            with lock: go.set(); a.join()
        attempt(main); a.join(); assert not lock.locked()
        """,
        "cycle",
        {"a": "Lock", "MainThread": "Thread.join"},
        "a",
    ),
    "join with an RLock that the other wants": (
        """
        lock, [a] = threading.RLock(), launch(a=lambda: (go.wait(), lock.acquire(), lock.release()))
        def main():
            lock.acquire(); lock.acquire(); go.set()
            try: a.join()
            finally: lock.release(); lock.release()
        attempt(main); a.join()
        """,
        "cycle",
        {"a": "RLock", "MainThread": "Thread.join"},
        "a",
    ),
    "a Lock and an RLock in opposite order": (
        """
        one, two, meet = threading.Lock(), threading.RLock(), threading.Barrier(2)
        def take(first, second):
            with first:
                meet.wait()
                with second: pass
        a, b = launch(a=lambda: take(one, two), b=lambda: take(two, one)); a.join(); b.join()
        """,
        "cycle",
        {"a": "RLock", "b": "Lock"},
        "ab",
    ),
    "a lock held by one that waits for an item": (
        """
        lock, q = threading.Lock(), queue.Queue()
        def get():
            with lock: go.set(); q.get()
        def put():
            with lock: q.put(1)
        [a] = launch(a=get); go.wait(); attempt(put); a.join(); assert q.qsize() == 1
        """,
        "asleep",
        {"a": "Queue.get", "MainThread": "Lock"},
        "a",
    ),
    "a full queue and an event and a semaphore": (
        """
        q, semaphore = queue.Queue(1), threading.Semaphore(0); q.put(1)
        a, b = launch(a=lambda: (go.wait(), q.put(2), semaphore.release()), b=lambda: (go.wait(), q.join()))
        go.set(); attempt(semaphore.acquire)
        assert q.get() == 1; a.join(); q.get(); q.task_done(); q.task_done(); b.join(); assert semaphore._value == 1
        """,
        "asleep",
        {"a": "Queue.put", "b": "Queue.join", "MainThread": "Semaphore"},
        "MainThread",
    ),
    "a party that never comes": (
        """
        barrier = threading.Barrier(4)
        a, b = launch(a=barrier.wait, b=barrier.wait); attempt(barrier.wait); a.join(); b.join()
        """,
        "asleep",
        {"a": "Barrier", "b": "Barrier", "MainThread": "Barrier"},
        "MainThread",
    ),
    "a task that waits for its own pool": (
        """
        pool = futures.ThreadPoolExecutor(1, "pool")
        outer = pool.submit(attempt, lambda: pool.submit(int).result()); outer.result(); pool.shutdown()
        """,
        "asleep",
        {"pool_0": "Future.result", "MainThread": "Future.result"},
        "pool_0",
    ),
    "a condition whose notifier wants another lock": (
        """
        condition, lock = threading.Condition(), threading.Lock()
        def wait():
            with lock, condition: go.set(); condition.wait()
        def notify():
            with lock, condition: condition.notify()
        [a] = launch(a=wait); go.wait(); attempt(notify); a.join()
        """,
        "asleep",
        {"a": "Condition", "MainThread": "Lock"},
        "a",
    ),
    "a daemon and an ended thread": (
        """
        threading.Thread(target=lambda: threading.Event().wait(), daemon=True, name="d").start()
        [a] = launch(a=int); a.join(); attempt(go.wait)
        """,
        "asleep",
        {"d": "Event", "MainThread": "Event"},
        "MainThread",
    ),
}


@pytest.mark.parametrize("name", list(MIXED))
def test_mixtures(name: str) -> None:
    steps, cause, kinds, told = MIXED[name]
    program = TOOLS + "go = threading.Event()\n" + textwrap.dedent(steps) + f"\ncheck({cause!r}, {kinds!r})\n"
    code, out, err = run(program, deadline=5)
    assert (code, err) == (0, ""), err
    assert out.startswith("one error in ") and out.split()[-1] in (told if cause == "cycle" else [told])


# ---------------------------------------------------------------- other modes

STUCK = {
    "cycle": "lock = threading.Lock()\nwith lock: lock.acquire()",
    "asleep": "queue.Queue().get()",
}


@pytest.mark.parametrize("name", list(STUCK))
def test_off_hangs(name: str) -> None:
    # The dump is for the cycle only: the thread that prints it is awake, and so would hide a process all asleep.
    dump = "import faulthandler; faulthandler.dump_traceback_later(0.8)" if name == "cycle" else ""
    code, out, err = run(f"{dump}\nprint(1, flush=True)\n{STUCK[name]}\nprint(2)\n", deadlock="off", deadline=1.5)
    assert (code, out) == (None, "1\n")
    assert "DeadlockError" not in err
    assert ('File "<string>", line ' in err and "in <module>" in err) == (name == "cycle")


@pytest.mark.parametrize("name", list(STUCK))
def test_report_prints_once_and_waits_on(name: str) -> None:
    code, out, err = run(f"print(1, flush=True)\n{STUCK[name]}\nprint(2)\n", deadlock="report", deadline=1.5)
    assert (code, out) == (None, "1\n")
    assert err.count("phalanx.DeadlockError (reported, not raised): ") == err.count("hint: ") == 1
    assert err.count("MainThread") == 1


def test_two_deadlocks_one_after_the_other_are_two_reports() -> None:
    program = """
    for n in range(2):
        try: queue.Queue().get()
        except phalanx.DeadlockError as error: print(error.cause, len(error.threads))
    """
    assert run(program, deadline=5) == (0, "asleep 1\n" * 2, "")


VALUES = {"raise": "raise", "report": "report", "off": "off", "": "raise"}


def start(value: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an environment with that PHALANX_DEADLOCK."""
    environment = os.environ | {"PHALANX_DEADLOCK": value}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10)


@pytest.mark.parametrize("value", list(VALUES))
def test_the_variable_chooses_the_mode(value: str) -> None:
    ended = start(
        value, "-c", "import phalanx; phalanx.install(); from phalanx import _core; print(_core.deadlock_mode())"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, VALUES[value] + "\n", "")


@pytest.mark.parametrize("value", ["rise", "OFF", "0", " raise"])
@pytest.mark.parametrize(
    "how", [["-c", "import phalanx; phalanx.install()"], ["-m", "phalanx", "run", "-c", "print(1)"]]
)
def test_a_wrong_value_is_a_clear_error(value: str, how: list[str]) -> None:
    ended = start(value, *how)
    assert ended.returncode != 0 and ended.stdout == ""
    assert f"PHALANX_DEADLOCK must be 'raise', 'report' or 'off', not {value!r}" in ended.stderr
    assert how[0] == "-c" or "Traceback" not in ended.stderr


def test_a_wrong_argument_is_a_clear_error() -> None:
    code, out, err = run("phalanx.install(deadlock='never')")
    assert (code, out) == (1, "")
    assert err.endswith("ValueError: deadlock must be 'raise', 'report' or 'off', not 'never'\n")
