"""Calls that were submitted one by one wait for a worker together; everybody sees each as if it had gone alone."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from phalanx import WorkerDied
from phalanx import multiprocessing as mp
from phalanx.concurrent.futures import ProcessPoolExecutor, as_completed

MANY = 2_000
LATE = 600  # by then calls travel together
SLOW = -9
CTX = mp.get_context("fork")
gates: Any = None


def take_gates(given: Any) -> None:
    global gates
    gates = given


def step(n: int) -> int:
    """Quick, but the negative ones tell that they have come, and wait."""
    if n < 0:
        gates[0].put((n, os.getpid()))
        gates[1 if n > SLOW else 2].acquire()
    return n


def other(n: int) -> int:
    return -n


def fail_at_thousands(n: int) -> Any:
    if n % 1000 == 999:
        raise ValueError(n)
    return (lambda: n) if n == 1500 else n


class Workers:
    """An executor of `n` workers that knows that `step` is quick, and their gates."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.come, self.gate, self.second = CTX.Queue(), CTX.Semaphore(0), CTX.Semaphore(0)
        self.executor = ProcessPoolExecutor(n, CTX, take_gates, ((self.come, self.gate, self.second),))
        for future in [self.executor.submit(step, i) for i in range(LATE)]:
            future.result(20)

    def block(self) -> list[Any]:
        """Have every worker wait at the gate."""
        waiting = [self.executor.submit(step, -1 - i) for i in range(self.n)]
        for _ in waiting:
            self.come.get(timeout=20)
        # On a busy machine it may have looked slow.
        crew = self.executor._crew
        crew.wait_for(lambda: True)
        crew._backlog.learn(step, 1000, 1000, 1000)
        return waiting

    def submit(self, numbers: Any) -> list[Any]:
        return [self.executor.submit(step, n) for n in numbers]

    def travelling(self, futures: list[Any]) -> list[Any]:
        """Those in bundles."""
        self.executor._crew.wait_for(lambda: True)
        return [future for future in futures if future._bundle is not None]

    def open(self) -> None:
        """Let those go that `block` has made wait."""
        for _ in range(self.n):
            self.gate.release()

    def shutdown(self) -> None:
        self.open()
        self.second.release()
        self.executor.shutdown()


@pytest.fixture
def one() -> Iterator[Workers]:
    workers = Workers(1)
    yield workers
    workers.shutdown()


@pytest.fixture
def two() -> Iterator[Workers]:
    workers = Workers(2)
    yield workers
    workers.shutdown()


@pytest.mark.timeout(60)
def test_calls_do_travel_together_and_all_come(two: Workers) -> None:
    waiting = two.block()
    futures = two.submit(range(MANY))
    assert two.travelling(futures)
    assert not any(future.done() or future.running() for future in futures)
    two.open()
    assert [future.result(20) for future in futures] == list(range(MANY))
    assert sorted(future.result(20) for future in waiting) == [-2, -1]
    assert two.executor.statistics()[0]["tasks"] + two.executor.statistics()[1]["tasks"] == LATE + 2 + MANY


@pytest.mark.timeout(60)
def test_several_functions_by_turns(two: Workers) -> None:
    calls = [(step, other)[n // 70 % 2] for n in range(MANY)]
    futures = [two.executor.submit(call, n) for n, call in enumerate(calls)]
    assert [future.result(20) for future in futures] == [n if call is step else -n for n, call in enumerate(calls)]
    assert len(list(as_completed(futures, 20))) == MANY


@pytest.mark.timeout(60)
def test_a_failure_is_its_own_calls(two: Workers) -> None:
    for _ in range(2):
        futures = [two.executor.submit(fail_at_thousands, n) for n in range(MANY)]
        bad = [n for n, future in enumerate(futures) if future.exception(20) is not None]
        assert bad == [999, 1500, 1999]
        assert [str(futures[n].exception()) for n in bad[::2]] == ["999", "1999"]
        assert "<lambda>" in str(futures[1500].exception())


@pytest.mark.timeout(60)
def test_an_argument_that_cannot_be_pickled(two: Workers) -> None:
    lock = threading.Lock()
    futures = [two.executor.submit(step, lock if n == 1000 else n) for n in range(MANY)]
    with pytest.raises(TypeError, match="pickle"):
        futures[1000].result(20)
    assert [future.result(20) for future in futures if future is not futures[1000]] == [
        n for n in range(MANY) if n != 1000
    ]


@pytest.mark.timeout(60)
def test_each_can_be_cancelled(two: Workers) -> None:
    two.block()
    futures = two.submit(range(MANY))
    together = two.travelling(futures)
    assert all(future.cancel() for future in together[::2])
    assert all(future.cancelled() for future in together[::2])
    gone = {id(future) for future in together[::2]}
    two.open()
    for n, future in enumerate(futures):
        if id(future) in gone:
            with pytest.raises(CancelledError):
                future.result(20)
        else:
            assert future.result(20) == n


@pytest.mark.timeout(60)
def test_a_slow_one_in_the_middle(one: Workers) -> None:
    one.block()
    futures = one.submit(range(LATE))
    slow, *more = one.submit([SLOW, *range(LATE)])
    assert one.travelling([slow])
    one.open()
    assert one.come.get(timeout=20)[0] == SLOW
    assert [future.result(20) for future in futures] == list(range(LATE))
    assert slow.running() and not slow.cancel() and not more[0].running()
    assert more[0].cancel()
    one.second.release()
    assert slow.result(20) == SLOW
    assert [future.result(20) for future in more[1:]] == list(range(1, LATE))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["killed", "cancelled"])
def test_an_end_in_the_middle_costs_one(one: Workers, how: str) -> None:
    one.block()
    before = one.submit(range(LATE))
    slow, *after = one.submit([SLOW, *range(LATE)])
    assert one.travelling([slow])
    one.open()
    number, pid = one.come.get(timeout=20)
    assert number == SLOW
    if how == "killed":
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=rf"\(pid {pid}\) died with step\(-9\) in its hands: killed by SIGKILL"):
            slow.result(20)
    else:
        assert slow.cancel(running=True) and slow.cancelled()
    assert [future.result(20) for future in [*before, *after]] == [*range(LATE), *range(LATE)]


@pytest.mark.timeout(60)
def test_an_idle_worker_gets_what_another_has_not_begun(two: Workers) -> None:
    two.block()
    before = two.submit(range(LATE))
    slow, *after = two.submit([SLOW, *range(LATE)])
    assert two.travelling([slow])
    two.open()
    assert two.come.get(timeout=20)[0] == SLOW
    assert [future.result(20) for future in [*before, *after]] == [*range(LATE), *range(LATE)]
    assert slow.running()
    two.second.release()
    assert slow.result(20) == SLOW


@pytest.mark.timeout(60)
def test_shutdown_cancels_what_has_not_begun(one: Workers) -> None:
    one.block()
    futures = one.submit([*range(LATE), SLOW, *range(LATE)])
    assert one.travelling(futures)
    one.open()
    assert one.come.get(timeout=20)[0] == SLOW
    assert futures[LATE].running()
    one.executor.shutdown(wait=False, cancel_futures=True)
    one.second.release()
    assert futures[LATE].result(20) == SLOW
    assert [future.result(20) for future in futures[:LATE]] == list(range(LATE))
    assert all(future.cancelled() for future in futures[LATE + 1 :])
    with pytest.raises(RuntimeError, match="after shutdown"):
        one.executor.submit(step, 1)


@pytest.mark.timeout(60)
def test_ended_workers_end_every_call(one: Workers) -> None:
    one.block()
    futures = one.submit(range(MANY))
    assert one.travelling(futures)
    one.executor.kill_workers()
    assert all(future.cancelled() or future.exception(20) is not None for future in futures)


@pytest.mark.timeout(60)
def test_calls_of_a_pool() -> None:
    told: list[int] = []
    bundles: list[int] = []
    with CTX.Pool(2) as pool:
        packed = pool._crew._packed
        pool._crew._packed = lambda job: bundles.append(len(getattr(job, "items", ()))) or packed(job)
        results = [pool.apply_async(other, (n,), callback=told.append) for n in range(MANY)]
        assert [result.get(20) for result in results] == [-n for n in range(MANY)]
        assert max(bundles) > 1
        assert sorted(told) == sorted(-n for n in range(MANY))
        pool.close()
        pool.join()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["shutdown", "cancel", "kill", "close", "terminate"])
def test_submitted_from_eight_threads_while_it_ends(how: str) -> None:
    ends: Any = {
        "shutdown": lambda pool: pool.shutdown(),
        "cancel": lambda pool: pool.shutdown(cancel_futures=True),
        "kill": lambda pool: pool.kill_workers(),
        "close": lambda pool: (pool.close(), pool.join()),
        "terminate": lambda pool: (pool.terminate(), pool.join()),
    }
    of_pool = how in ("close", "terminate")
    for _ in range(3):
        pool: Any = CTX.Pool(2) if of_pool else ProcessPoolExecutor(2, CTX)
        all_begun = threading.Barrier(9)
        handles: list[list[Any]] = [[] for _ in range(8)]

        def go(mine: list[Any], pool: Any = pool, all_begun: Any = all_begun) -> None:
            with contextlib.suppress(RuntimeError, ValueError):  # it takes no more
                for n in itertools.count():
                    if n == 200:
                        all_begun.wait(20)
                    mine.append(pool.apply_async(abs, (-n,)) if of_pool else pool.submit(abs, -n))

        threads = [threading.Thread(target=go, args=(mine,)) for mine in handles]
        for thread in threads:
            thread.start()
        all_begun.wait(20)
        ends[how](pool)
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        for mine in handles:
            for n, handle in enumerate(mine):
                try:
                    assert (handle.get if of_pool else handle.result)(20) == n
                except (CancelledError, BrokenProcessPool):
                    assert how in ("cancel", "kill", "terminate")


@pytest.mark.timeout(60)
def test_looks_at_a_slow_bundle_call_for_no_further_look(one: Workers) -> None:
    one.block()
    futures = one.submit([SLOW, *range(LATE)])
    one.open()
    assert one.come.get(timeout=20)[0] == SLOW
    crew = one.executor._crew
    rings: list[int] = []
    crew.tender.ring = lambda: rings.append(1)
    looks = threading.Semaphore(0)
    look = crew.look_at_bundles
    crew.look_at_bundles = lambda: (look(), looks.release())
    for _ in range(10):
        assert looks.acquire(timeout=20)
    assert futures[0].running() and not rings
    del crew.tender.ring, crew.look_at_bundles
    one.second.release()
    assert [future.result(20) for future in futures] == [SLOW, *range(LATE)]


@pytest.mark.timeout(60)
def test_nothing_is_kept_of_a_call_that_has_ended() -> None:
    def use(workers: Workers) -> weakref.ref[Any]:
        workers.block()
        before = workers.submit(range(LATE))
        # The first call of another function goes alone, to see how long it takes.
        bad = workers.executor.submit(fail_at_thousands, 999)
        assert workers.travelling([*before, bad])
        workers.open()
        with contextlib.suppress(ValueError):
            bad.result(20)  # the traceback has this frame, which has the executor
        return weakref.ref(bad)

    workers = Workers(1)
    crew = weakref.ref(workers.executor._crew)
    bad = use(workers)
    gc.collect()
    assert bad() is None
    workers.shutdown()
    del workers
    gc.collect()
    assert crew() is None


@pytest.mark.timeout(60)
def test_a_call_that_failed_goes_with_the_last_who_holds_it(one: Workers) -> None:
    future = one.executor.submit(fail_at_thousands, 999)
    with pytest.raises(ValueError, match="999"):
        future.result(20)
    gone = weakref.ref(future)
    gc.disable()
    try:
        del future
        assert gone() is None
    finally:
        gc.enable()
