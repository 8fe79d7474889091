"""A signal handler that raises at any moment in the main thread, which then goes on with its pool: nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any

import pytest
from tests.programs import run

from phalanx import RemoteError, WorkerDied
from phalanx import multiprocessing as mp

CTX = mp.get_context("fork")

HEAD = """
import concurrent.futures, multiprocessing, random
from concurrent.futures import ProcessPoolExecutor, as_completed, wait

class Alarm(Exception):
    pass

dice, hits, armed = random.Random(7), 0, False

def handler(*_):
    global hits
    if armed:
        hits += 1
        raise Alarm

signal.signal(signal.SIGALRM, handler)

def attempt(deed):
    "Somewhere in here the handler raises, or not."
    global armed
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.00005, 0.003))
        deed()
    except Alarm:
        pass
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

def double(x):
    return 2 * x

def begun(executor):
    "With workers: hooks of `fork` swallow what is raised in them."
    assert executor.submit(double, 1).result() == 2
    return executor

class Slow:
    "Takes the interpreter a while to load and to pickle."
    def __init__(self, x): self.x = x
    def __reduce__(self): return rebuilt, (sum(range(300)) * 0 + self.x,)
    def __eq__(self, other): return self.x == other.x

def rebuilt(x):
    return Slow(sum(range(300)) * 0 + x)

def slowly(slow):
    return Slow(slow.x + 1)

context = multiprocessing.get_context("fork")
pool, executor = None, None
end = time.monotonic() + 1.5
rounds = 0
while time.monotonic() < end:
    rounds += 1
    one_round()
assert hits > 20, (hits, rounds)
if pool:
    pool.close(); pool.join()
if executor:
    executor.shutdown()
print("done")
"""

ROUNDS = {
    "submit": """
def one_round():
    global executor
    executor = executor or begun(ProcessPoolExecutor(2, context))
    futures = []
    @attempt
    def _():
        for x in range(300): futures.append((x, executor.submit(double, x)))
        for x, future in futures: assert future.result() == 2 * x
    for x, future in futures: assert future.result(10) == 2 * x
""",
    "wait": """
def one_round():
    global executor
    executor = executor or begun(ProcessPoolExecutor(2, context))
    futures = {executor.submit(double, x): x for x in range(100)}
    @attempt
    def _():
        wait(list(futures)[:50])
        list(as_completed(futures))
    assert len(list(as_completed(futures, 10))) == 100
    for future, x in futures.items(): assert future.result(10) == 2 * x
""",
    "cancel": """
def one_round():
    global executor
    executor = executor or begun(ProcessPoolExecutor(2, context))
    futures = [executor.submit(double, x) for x in range(200)]
    @attempt
    def _():
        for future in futures[::-2]: future.cancel()
    for x, future in enumerate(futures):
        try: assert future.result(10) == 2 * x
        except concurrent.futures.CancelledError: assert x % 2
""",
    "Executor.map": """
def one_round():
    global executor
    executor = executor or begun(ProcessPoolExecutor(2, context))
    @attempt
    def _():
        assert list(executor.map(double, range(500))) == list(range(0, 1000, 2))
    assert executor.submit(double, 7).result(10) == 14
""",
    "apply": """
def one_round():
    global pool
    pool = pool or context.Pool(2)
    results = []
    @attempt
    def _():
        for x in range(300): results.append((x, pool.apply_async(double, (x,))))
        for x in range(20): assert pool.apply(double, (x,)) == 2 * x
    for x, result in results: assert result.get(10) == 2 * x
""",
    "map": """
def one_round():
    global pool
    pool = pool or context.Pool(2)
    result = pool.map_async(double, range(3000), dice.choice([None, 1, 7]))
    attempt(lambda: result.get())
    assert result.get(10) == list(range(0, 6000, 2))
""",
    "map of what takes long to load": """
def one_round():
    global pool
    pool = pool or context.Pool(2)
    result = pool.map_async(slowly, [Slow(x) for x in range(60)], dice.choice([None, 1, 7]))
    attempt(lambda: result.get())
    assert result.get(10) == [Slow(x + 1) for x in range(60)]
""",
    "imap": """
def one_round():
    global pool
    pool = pool or context.Pool(2)
    size, ordered = dice.choice([1, 5]), dice.random() < 0.5
    results = (pool.imap if ordered else pool.imap_unordered)(double, range(2000), size)
    got = []
    @attempt
    def _():
        for value in results: got.append(value)
    while True:
        try: got.append(results.next(10))
        except StopIteration: break
    # One may have been on its way to this program when it was interrupted.
    assert len(set(got)) == len(got) >= 2000 - 1 and set(got) <= set(range(0, 4000, 2))
""",
}


@pytest.mark.parametrize("what", ROUNDS)
def test_a_handler_raises_at_any_moment(what: str) -> None:
    outcome = run(ROUNDS[what] + HEAD, deadline=60.0)
    # What is raised in a finalizer is printed, wherever that is.
    assert (outcome.code, outcome.out) == (0, "done\n"), outcome


def count(n: int) -> int:
    return n


@pytest.mark.timeout(60)
def test_workers_interrupted_at_any_moment() -> None:
    """Each call ends with its own value or with what Ctrl-C has done to it, and each bundle with them."""
    over = threading.Event()
    with CTX.Pool(2) as pool:
        crew = pool._crew
        assert pool.map(count, range(200), 1) == list(range(200))

        def interrupt() -> None:
            while not over.wait(0.003):
                for worker in list(crew.workers):
                    if worker.pid in crew.tender.ready:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(worker.pid, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            end = time.monotonic() + 2
            while time.monotonic() < end:
                for n, result in enumerate([pool.apply_async(count, (n,)) for n in range(300)]):
                    try:
                        assert result.get(20) == n
                    except (KeyboardInterrupt, RemoteError, WorkerDied):  # in the task; while it was loaded; in between
                        pass
        finally:
            over.set()
            thread.join()
        results: Any = [pool.apply_async(count, (n,)) for n in range(300)]
        assert sum(result.wait(20) is None and result.ready() for result in results) == 300
        assert not crew.under_way and not crew._jobs
