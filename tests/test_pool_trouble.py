"""Pools where a worker cannot be started, or a callback raises what nobody catches: who waits has an answer."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from phalanx import WorkerDied
from phalanx import multiprocessing as mp
from phalanx.concurrent.futures import ProcessPoolExecutor, wait
from phalanx.multiprocessing.pool import ThreadPool

CTX = mp.get_context("fork")
KINDS = ["Pool", "Executor"]


@pytest.fixture(autouse=True)
def printed(monkeypatch: Any) -> list[Any]:
    """What threads print of exceptions."""
    printed: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: printed.append(args.exc_type))
    return printed


go: Any = None


def wait_to_go() -> None:
    assert go.wait(20)


def suicide() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Pools:
    """One kind of pool, with one set of verbs."""

    def __init__(self, kind: str, workers: int = 2) -> None:
        global go
        go = CTX.Event()
        self.of_pool = kind == "Pool"
        self.pool: Any = CTX.Pool(workers) if self.of_pool else ProcessPoolExecutor(workers, CTX)
        assert self.got(self.send(abs, -1)) == 1
        self.crew = self.pool._crew

    def send(self, task: Any, *args: Any, callback: Any = None) -> Any:
        if self.of_pool:
            return self.pool.apply_async(task, args, callback=callback, error_callback=callback)
        future = self.pool.submit(task, *args)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def got(self, handle: Any) -> Any:
        return handle.get(20) if self.of_pool else handle.result(20)

    def refuse_workers(self, times: int) -> None:
        """So many times no process can be started."""
        start, left = self.crew.staff._start, iter(range(times))

        def refuse(*args: Any) -> Any:
            if next(left, None) is not None:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return start(*args)

        self.crew.staff._start = refuse

    def end(self) -> None:
        if self.of_pool:
            self.pool.terminate()
            self.pool.join()
        else:
            self.pool.shutdown()


@pytest.fixture(params=KINDS)
def pools(request: Any, printed: list[Any]) -> Iterator[Pools]:
    pools = Pools(request.param)
    yield pools
    pools.end()


@pytest.mark.timeout(60)
def test_a_worker_that_cannot_be_started_for_a_while(pools: Pools) -> None:
    pools.refuse_workers(3)
    dead = [pools.send(suicide) for _ in range(2)]
    others = [pools.send(abs, -n) for n in range(40)]
    for one in dead:
        with pytest.raises(WorkerDied):
            pools.got(one)
    assert [pools.got(one) for one in others] == list(range(40))
    assert len(pools.crew.workers) == 2


@pytest.mark.timeout(60)
def test_a_pool_that_is_closed_while_it_has_no_worker(pools: Pools) -> None:
    pools.refuse_workers(3)
    dead = [pools.send(suicide) for _ in range(2)]
    others = [pools.send(abs, -n) for n in range(40)]
    if pools.of_pool:
        pools.pool.close()
        pools.pool.join()
    else:
        pools.pool.shutdown()
    for one in dead:
        with pytest.raises(WorkerDied):
            pools.got(one)
    assert [pools.got(one) for one in others] == list(range(40))


@pytest.mark.timeout(60)
def test_a_pool_that_can_start_no_worker_any_more(pools: Pools) -> None:
    pools.refuse_workers(1_000_000)
    dead = [pools.send(suicide) for _ in range(2)]
    others = [pools.send(abs, -n) for n in range(40)]
    for one in dead:
        with pytest.raises(WorkerDied):
            pools.got(one)
    for one in others:
        with pytest.raises(BrokenProcessPool, match="no worker of the pool can be started: BlockingIOError"):
            pools.got(one)


@pytest.mark.timeout(60)
def test_an_executor_that_cannot_grow_goes_on_with_what_it_has() -> None:
    with ProcessPoolExecutor(2, mp.get_context("spawn")) as executor:
        assert executor.submit(abs, -1).result(50) == 1
        executor._crew.staff._start = lambda *_: (_ for _ in ()).throw(BlockingIOError(11, "unavailable"))
        assert [future.result(20) for future in [executor.submit(abs, -n) for n in range(40)]] == list(range(40))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises_where_nobody_waits(kind: type[BaseException], pools: Pools, printed: list[Any]) -> None:
    def raises(_: Any) -> None:
        raise kind

    for _ in range(2):
        pools.send(wait_to_go)  # else a callback of what has ended already is called here
    handles = [pools.send(abs, -n, callback=raises if n % 10 == 0 else None) for n in range(200)]
    gate = threading.Event()
    last = pools.send(abs, -200, callback=lambda _: gate.set())
    go.set()
    assert gate.wait(20)  # not one thread of ours has collected so far
    assert printed.count(kind) == 20
    assert [pools.got(one) for one in handles] == list(range(200))
    assert pools.got(last) == 200 and pools.got(pools.send(abs, -5)) == 5


@pytest.mark.timeout(60)
def test_a_callback_that_raises_where_somebody_waits(pools: Pools) -> None:
    class Odd(BaseException):
        pass

    def raises(_: Any) -> None:
        raise Odd

    handles = [pools.send(abs, -n) for n in range(200)]
    for one in handles if not pools.of_pool else ():
        with contextlib.suppress(Odd):  # it was there already
            one.add_done_callback(raises)
    handles += [pools.send(abs, -n, callback=raises if pools.of_pool else None) for n in range(200, 400)]
    for n, one in enumerate(handles):
        while True:
            try:
                assert pools.got(one) == n
                break
            except Odd:  # of that call or of another: it goes to whoever collects
                pass
    assert pools.got(pools.send(abs, -5)) == 5


@pytest.mark.timeout(60)
def test_a_future_that_the_program_ends_itself() -> None:
    pools = Pools("Executor", 1)
    pools.send(wait_to_go)
    futures = [pools.send(abs, -n) for n in range(100)]
    futures[50].set_result("mine")
    go.set()
    assert wait(futures, 20).not_done == set()
    assert futures[50].result() == "mine"
    assert pools.got(pools.send(abs, -5)) == 5
    pools.end()


@pytest.mark.timeout(60)
def test_a_callback_of_a_thread_pool_that_raises(printed: list[Any]) -> None:
    def raises(_: Any) -> None:
        raise SystemExit

    with ThreadPool(1) as pool:
        results = [pool.apply_async(abs, (-n,), callback=raises) for n in range(10)]
        assert [result.get(20) for result in results] == list(range(10))
        pool.close()
        pool.join()
    assert printed == [SystemExit] * 10


@pytest.mark.timeout(60)
def test_a_callback_that_waits_for_one_that_waits_for_a_result(pools: Pools) -> None:
    gone_on = threading.Event()
    threads: list[Any] = []

    def waits(_: Any) -> None:
        threads.append(threading.current_thread())
        assert gone_on.wait(20)

    for _ in range(2):
        pools.send(wait_to_go)
    handles = [pools.send(abs, -n, callback=waits if n == 50 else None) for n in range(200)]
    go.set()
    # They travel together, and this thread is the one that waits for the first of them.
    assert [pools.got(one) for one in handles[:50]] == list(range(50))
    gone_on.set()
    assert [pools.got(one) for one in handles] == list(range(200))
    assert threads == [pools.crew.tender.thread]
