"""`options()` and `statistics()` of pools whose workers are threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from phalanx.concurrent.futures import ThreadPoolExecutor, as_completed, wait
from phalanx.multiprocessing.pool import ThreadPool


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def test_a_call_out_of_time(gate: threading.Event, executor: Any) -> None:
    slow = executor.options(timeout=0.05).submit(gate.wait)
    patient = executor.options(timeout=60)
    assert [patient.submit(pow, 2, n).result(20) for n in range(5)] == [1, 2, 4, 8, 16]
    with pytest.raises(TimeoutError, match=r"wait\(\) took longer than 0\.05 s; its thread goes on"):
        slow.result(20)
    assert slow.done() and not slow.cancelled()
    gate.set()


def test_a_call_with_a_limit_fails_as_any_other(executor: Any) -> None:
    view = executor.options(timeout=60)
    with pytest.raises(ZeroDivisionError):
        view.submit(lambda: 1 // 0).result(20)
    assert list(view.map(abs, range(-5, 0))) == [5, 4, 3, 2, 1]
    futures = [view.submit(abs, -n) for n in range(50)]
    assert sorted(future.result() for future in as_completed(futures, 20)) == list(range(50))


def test_calls_with_a_limit_that_no_thread_begins(gate: threading.Event) -> None:
    executor = ThreadPoolExecutor(1)
    executor.submit(gate.wait)
    view = executor.options(timeout=60)
    first, second, third = (view.submit(abs, -n) for n in range(3))
    assert first.cancel() and first.cancelled()
    executor.shutdown(wait=False, cancel_futures=True)
    gate.set()
    assert wait([first, second, third], 20).not_done == set()
    assert second.cancelled() and third.cancelled()


def test_calls_cancelled_at_shutdown_are_done(gate: threading.Event) -> None:
    executor = ThreadPoolExecutor(1)
    executor.submit(gate.wait)
    futures = [executor.submit(abs, -n) for n in range(3)]
    assert futures[0].cancel()
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert wait(futures, 20).not_done == set() and len(list(as_completed(futures, 20))) == 3


def test_a_limit_where_no_thread_can_begin() -> None:
    def fail() -> None:
        raise KeyError("no")

    with ThreadPoolExecutor(1, initializer=fail) as executor, pytest.raises(RuntimeError, match="initializer"):
        executor.options(timeout=60).submit(abs, 1).result(20)


def test_a_thread_is_not_ended(gate: threading.Event, executor: Any) -> None:
    begun = threading.Event()
    future = executor.submit(lambda: (begun.set(), gate.wait(20)))
    assert begun.wait(20)
    assert not future.cancel(running=True) and future.running()
    gate.set()
    assert future.result(20) == (None, True)
    with ThreadPool(1) as pool:
        result = pool.apply_async(gate.wait)
        assert result.get(20) and not result.cancel(running=True)


def test_progress_of_a_map(executor: Any) -> None:
    for options, total in (({}, 40), ({"buffersize": 3}, None)):
        told: list[tuple[int, int | None]] = []
        view = executor.options(on_progress=lambda *news, told=told: told.append(news))
        assert list(view.map(abs, range(-40, 0), **options)) == list(range(40, 0, -1))
        assert told == [(n, total) for n in range(1, 41)]


def test_a_shared_object_is_the_first_argument(executor: Any) -> None:
    seen: list[int] = []
    assert list(executor.options(shared=seen).map(list.append, range(10))) == [None] * 10
    assert sorted(seen) == list(range(10))
    assert executor.options(shared=seen, timeout=60).submit(len).result(20) == 10


def test_map_goes_by_the_submit_of_its_executor(executor: Any) -> None:
    calls: list[Any] = []
    submit = executor.submit
    executor.submit = lambda *call: calls.append(call) or submit(*call)
    for options in ({}, {"buffersize": 2}):
        assert list(executor.map(abs, [-1, -2, -3, -4], **options)) == [1, 2, 3, 4]
    assert calls == [(abs, -n) for n in (1, 2, 3, 4)] * 2


@pytest.mark.parametrize("option", [{"memory": 1 << 30}, {"seed": 7}], ids=str)
def test_what_only_processes_have_is_refused(option: dict[str, int], executor: Any) -> None:
    with ThreadPool(1) as pool:
        for one in (pool, executor):
            with pytest.raises(ValueError, match="thread") as caught:
                one.options(**option)
            assert "hint: use a pool of processes" in str(caught.value)


def test_threads_of_a_pool_are_counted(gate: threading.Event) -> None:
    with ThreadPool(3) as pool:
        assert pool.map(abs, range(-30, 0), chunksize=1) == list(range(30, 0, -1))
        barrier = threading.Barrier(3)
        pool.map(lambda _: barrier.wait(20), range(3), chunksize=1)
        rows = pool.statistics()
    assert [row["worker"] for row in rows] == ["ThreadPool-0", "ThreadPool-1", "ThreadPool-2"]
    assert sum(row["tasks"] for row in rows) == 33
    assert all(row["tasks"] and row["busy"] > 0 and row["waiting"] > 0 and row["pid"] == os.getpid() for row in rows)
