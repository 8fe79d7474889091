"""How tasks and maps end: by their time, at shutdown, thrown away; what is told of their progress."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import time
from typing import Any

import pytest

from phalanx import multiprocessing as mp
from phalanx.concurrent.futures import ProcessPoolExecutor

CTX = mp.get_context("fork")
done: Any = None


def take(given: Any) -> None:
    global done
    done = given


def note(n: int) -> int:
    done.put(n)
    return n


def forever() -> None:
    while True:
        time.sleep(60)


def counted(queue: Any) -> list[int]:
    """What the calls have noted, all of which have ended."""
    found = []
    while not queue.empty():
        found.append(queue.get(timeout=20))
    return sorted(found)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [TimeoutError, multiprocessing.TimeoutError], ids=["built-in", "multiprocessing"])
def test_a_task_out_of_time_is_caught_by_both_names(kind: type[Exception]) -> None:
    with CTX.Pool(1) as pool, pytest.raises(kind, match=r"forever\(\) took longer than 0\.05 s; its worker was ended"):
        pool.options(timeout=0.05).apply(forever)
    with ProcessPoolExecutor(1, CTX) as executor, pytest.raises(kind, match="took longer than"):
        executor.options(timeout=0.05).submit(forever).result()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [TimeoutError, multiprocessing.TimeoutError], ids=["built-in", "multiprocessing"])
def test_a_thread_out_of_time_too(kind: type[Exception]) -> None:
    gate = threading.Event()
    with mp.pool.ThreadPool(1) as pool:
        with pytest.raises(kind, match="took longer than"):
            pool.options(timeout=0.05).apply(gate.wait)
        gate.set()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["shutdown", "thrown away", "left"])
def test_a_map_that_nobody_asks_is_done_all_the_same(how: str) -> None:
    many = 2_000
    told = CTX.Queue()
    executor = ProcessPoolExecutor(2, CTX, take, (told,))
    results = executor.map(note, range(many))
    if how == "shutdown":
        executor.shutdown()
        assert list(results) == list(range(many))
    elif how == "thrown away":
        del results
        executor.shutdown()
    else:
        with executor:
            pass
    assert counted(told) == list(range(many))


@pytest.mark.timeout(60)
def test_a_bounded_map_submits_nothing_at_the_end() -> None:
    told = CTX.Queue()
    executor = ProcessPoolExecutor(2, CTX, take, (told,))
    results = executor.map(note, itertools.count(), buffersize=4)
    assert [next(results) for _ in range(10)] == list(range(10))
    executor.shutdown()
    assert counted(told) == list(range(14))


@pytest.mark.timeout(60)
def test_cancelled_maps_end_at_once() -> None:
    told = CTX.Queue()
    executor = ProcessPoolExecutor(2, CTX, take, (told,))
    results = executor.map(note, itertools.count())
    executor.shutdown(cancel_futures=True)
    del results
    assert len(counted(told)) <= 200


@pytest.mark.timeout(60)
def test_progress_of_a_bounded_map() -> None:
    news: list[tuple[int, int | None]] = []
    with ProcessPoolExecutor(2, CTX) as executor:
        view = executor.options(on_progress=lambda n, total: news.append((n, total)))
        assert list(view.map(abs, range(-50, 0), buffersize=3)) == list(range(50, 0, -1))
    assert [n for n, _ in news] == sorted(n for n, _ in news) and news[-1][0] == 50


@pytest.mark.timeout(60)
def test_a_child_ends_whatever_its_parent_held_at_the_fork() -> None:
    with ProcessPoolExecutor(1, CTX) as executor:
        assert executor.submit(abs, -1).result(20) == 1
        held, over = threading.Event(), threading.Event()

        def hold() -> None:
            with executor._crew._lock:
                held.set()
                over.wait(20)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(20)
        children = [CTX.Process(target=executor.shutdown if shuts else int) for shuts in (False, True)]
        for child in children:
            child.start()
        for child in children:
            child.join(20)
        codes = [child.exitcode for child in children]
        for child in children:
            child.kill()
        over.set()
        thread.join(20)
        assert codes == [0, 0]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_leaves_the_calls_of_its_parent_alone(method: str) -> None:
    told = CTX.Queue()

    def child() -> None:
        try:
            with pytest.raises(RuntimeError, match=f"goes to process {parent}, where it was submitted before a fork"):
                future.result(20)
            told.put([future.cancel(running=True), future.running(), executor.submit(abs, -3).result(20)])
            told.put(len(executor.statistics()))
            executor.shutdown(cancel_futures=True)
        except BaseException as error:
            told.put(repr(error))

    parent = os.getpid()
    with ProcessPoolExecutor(1, mp.get_context(method)) as executor:
        assert executor.submit(abs, -1).result(50) == 1
        future = executor.submit(time.sleep, 0.5)
        others = [executor.submit(abs, -n) for n in range(100)]
        process = CTX.Process(target=child)
        process.start()
        assert told.get(timeout=20) == [False, False, 3] and told.get(timeout=20) == 1
        process.join(20)
        assert process.exitcode == 0
        assert future.result(20) is None and [other.result(20) for other in others] == list(range(100))


@pytest.mark.timeout(60)
def test_a_child_has_its_own_lock_of_an_executor_that_has_not_begun() -> None:
    with ProcessPoolExecutor(1, CTX) as executor:
        held, over = threading.Event(), threading.Event()

        def hold() -> None:
            with executor._shutdown_lock:
                held.set()
                over.wait(20)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(20)
        child = CTX.Process(target=lambda: os._exit(executor.submit(abs, -7).result(10)))
        child.start()
        child.join(20)
        code = child.exitcode
        child.kill()
        over.set()
        thread.join(20)
        assert code == 7


@pytest.mark.timeout(60)
def test_a_child_does_not_do_the_maps_of_its_parent() -> None:
    told = CTX.Queue()
    take(told)  # for the child, too
    with ProcessPoolExecutor(1, CTX, take, (told,)) as executor:
        results = executor.map(note, range(1_000))
        child = CTX.Process(target=int)
        child.start()
        child.join(20)
        assert child.exitcode == 0 and list(results) == list(range(1_000))
    assert counted(told) == list(range(1_000))
