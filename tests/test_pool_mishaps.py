"""Calls that end although something goes wrong beside them."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, wait
from concurrent.futures.thread import BrokenThreadPool
from pathlib import Path
from typing import Any

import pytest
from tests.programs import output_of, until

import phalanx
from phalanx import multiprocessing as mp
from phalanx.concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from phalanx.multiprocessing.pool import ThreadPool

CTX = mp.get_context("fork")
pytestmark = pytest.mark.timeout(60)


def die(_: Any = None) -> None:
    os._exit(3)


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_calls_that_others_wait_for_when_the_workers_are_ended(how: str) -> None:
    for _ in range(5):
        executor = ProcessPoolExecutor(2, CTX)
        futures = [executor.submit(time.sleep, 0.0001) for _ in range(1000)]
        wait(futures, 0.02)  # from now on they are not the crew's alone
        getattr(executor, how)()
        assert not wait(futures, 20).not_done
        executor.shutdown()


@pytest.mark.parametrize("failing", [1, 2])
def test_an_executor_whose_first_start_fails_starts_with_the_next_call(
    failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forks = 0
    fork = os.fork

    def short() -> int:
        nonlocal forks
        forks += 1
        if forks == failing:
            raise BlockingIOError("no process is left")
        return fork()

    with ProcessPoolExecutor(2, CTX) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fork", short)
            with pytest.raises(BlockingIOError):
                executor.submit(abs, -1)
        assert executor.submit(abs, -2).result(20) == 2
        assert len(executor._processes) == 2


def test_an_executor_whose_thread_cannot_be_started() -> None:
    with ProcessPoolExecutor(1, CTX) as executor:
        start = threading.Thread.start
        try:
            threading.Thread.start = refuse  # type: ignore[method-assign]
            with pytest.raises(RuntimeError, match="can't start new thread"):
                executor.submit(abs, -1)
        finally:
            threading.Thread.start = start  # type: ignore[method-assign]
        assert executor.submit(abs, -2).result(20) == 2


def refuse(_: Any) -> None:
    raise RuntimeError("can't start new thread")


FULL = """
import resource
from phalanx import multiprocessing as mp
from phalanx.concurrent.futures import ProcessPoolExecutor

def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

def block_of(size):
    return bytes(size)

if __name__ == "__main__":
    context = mp.get_context("fork")
    with context.Pool(1, small_files) as pool, ProcessPoolExecutor(1, context, initializer=small_files) as executor:
        for call in (
            lambda: pool.apply(block_of, (3_000_000,)),
            lambda: pool.map(block_of, [3_000_000], chunksize=1),
            lambda: executor.submit(block_of, 3_000_000).result(),
        ):
            try:
                call()
            except MemoryError as error:
                print(error)
        print(pool.apply(block_of, (3,)) == executor.submit(block_of, 3).result() == bytes(3))
"""


def test_a_result_that_shared_memory_has_no_room_for(tmp_path: Path) -> None:
    # In a program of its own: here the memory may have grown already.
    assert output_of(FULL, tmp_path) == "the shared memory of this tree of processes is full\n" * 3 + "True\n"


def stay(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)


def test_replacements_that_die_early_do_not_break_a_pool_that_works(tmp_path: Any) -> None:
    path = str(tmp_path / "over")
    with mp.get_context("spawn").Pool(2) as pool:
        one, other = pool.apply_async(stay, (path,)), pool.apply_async(abs, (-1,))
        assert other.get(20) == 1
        busy = next(worker for worker in pool._pool if pool._crew.in_hand()[0][0] == _number(worker.pid))
        killed: set[int] = set()
        end = time.monotonic() + 40
        while len(killed) < 5:
            assert time.monotonic() < end, "workers are replaced"
            for worker in list(pool._pool):
                if worker is not busy and worker.pid not in killed:
                    killed.add(worker.pid)
                    os.kill(worker.pid, signal.SIGKILL)
            time.sleep(0.01)
        open(path, "w").close()
        assert one.get(20) is None
        assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]


def _number(pid: int) -> int:
    from phalanx import _core

    core: Any = _core
    return next((number for number in range(1, 4000) if core.Peer(number).life()[0] == pid), 0)


def test_a_callback_may_wait_for_a_call_whose_worker_dies() -> None:
    told: list[Any] = []
    with CTX.Pool(2) as pool:
        pool.apply_async(abs, (-1,), callback=lambda _: told.append(raised(lambda: pool.apply(die)))).wait()
        pool.close()
        pool.join()
    with ProcessPoolExecutor(1, CTX) as executor:
        done = threading.Event()

        def callback(_: Any) -> None:
            told.append(raised(lambda: executor.submit(die).result()))
            done.set()

        executor.submit(abs, -1).add_done_callback(callback)
        assert done.wait(20)
    assert [type(error) for error in told] == [phalanx.WorkerDied] * 2


def test_a_time_limit_holds_in_a_callback() -> None:
    told: list[Any] = []
    with CTX.Pool(1) as pool:
        limited = pool.options(timeout=0.1)
        pool.apply_async(
            abs, (-1,), callback=lambda _: told.append(raised(lambda: limited.apply(time.sleep, (50,))))
        ).wait()
        pool.close()
        pool.join()
    assert isinstance(told[0], TimeoutError)


def raised(call: Any) -> BaseException | None:
    try:
        call()
    except Exception as error:
        return error
    return None


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize("kind", [ThreadPool, CTX.Pool], ids=["ThreadPool", "Pool"])
@pytest.mark.parametrize("verb", ["map_async", "imap"])
def test_progress_that_exits(kind: Any, verb: str) -> None:
    def leave(done: int, total: int | None) -> None:
        raise SystemExit("enough")

    with kind(2) as pool:
        view = pool.options(on_progress=leave)
        with pytest.raises(SystemExit, match="enough"):
            view.map_async(abs, [-1, -2, -3]).get(20) if verb == "map_async" else list(view.imap(abs, [-1, -2, -3]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_progress_that_exits_costs_no_call_of_an_executor(kind: Any) -> None:
    def leave(done: int, total: int | None) -> None:
        raise SystemExit("enough")

    with kind(2) as executor:
        view = executor.options(on_progress=leave)
        assert list(view.map(abs, range(-50, 0), timeout=20)) == list(range(50, 0, -1))
        assert executor.submit(abs, -1).result(20) == 1


def test_progress_of_threads_is_in_order() -> None:
    with ThreadPool(8) as pool, ThreadPoolExecutor(8) as executor:
        for _ in range(10):
            news: list[int] = []
            view = pool.options(on_progress=lambda done, _, news=news: news.append(done))
            assert len(list(view.imap_unordered(abs, range(100)))) == 100
            until(lambda news=news: news[-1:] == [100], "the last result is told")  # which comes before its news
            assert news == sorted(set(news))
            news.clear()
            other = executor.options(on_progress=lambda done, _, news=news: news.append(done))
            assert len(list(other.map(abs, range(100)))) == 100
        executor.shutdown()
        assert news == sorted(set(news)) and news[-1] == 100


def test_progress_has_to_be_callable() -> None:
    with ThreadPool(1) as pool, pytest.raises(TypeError, match="on_progress"):
        pool.options(on_progress=5)


def test_a_map_whose_input_is_pulled_while_the_threads_go_home() -> None:
    pool = ThreadPool(2)

    def late() -> Any:
        yield 1
        pool.close()
        pool.join()
        yield 2

    with pytest.raises(RuntimeError, match="the pool has ended"):
        pool.map_async(abs, late()).get(20)


def test_threads_that_cannot_begin_end_all_calls_but_a_cancelled_one() -> None:
    go = threading.Event()

    def begin() -> None:
        go.wait()
        raise ValueError("not today")

    executor = ThreadPoolExecutor(1, initializer=begin)
    futures = [executor.submit(abs, -n) for n in range(4)]
    assert futures[1].cancel()
    go.set()
    for at in (0, 2, 3):
        with pytest.raises(BrokenThreadPool):
            futures[at].result(20)
    assert futures[1].cancelled() and issubclass(BrokenThreadPool, BrokenExecutor)


# ---------------------------------------------------------------- options


def draw(_: Any) -> float:
    import random

    return random.random()


nested: Any = None


def draw_within(_: Any) -> Any:
    import random

    random.seed(7)
    drawn = list(nested.options(seed=1).map(draw, range(3)))
    return drawn, random.random()


def test_seeds_hold_where_a_task_submits_to_its_own_pool() -> None:
    import random

    global nested
    with ProcessPoolExecutor(1, CTX) as nested:
        outside = list(nested.options(seed=1).map(draw, range(3)))
        drawn, after = nested.submit(draw_within, 0).result(20)
    assert drawn == outside and after == random.Random(7).random()


class Once:
    """Can be pickled once."""

    def __init__(self) -> None:
        self.done = False

    def __reduce__(self) -> Any:
        if self.done:
            raise ValueError("only once")
        self.done = True
        return Once, ()


def second(_: Any, value: int) -> int:
    return value


def test_a_shared_object_that_cannot_be_pickled_again_hurts_nobody_else() -> None:
    executor = phalanx.get_reusable_executor(1, context=CTX, timeout=0.05)
    view = executor.options(shared=Once())
    assert view.submit(second, 1).result(20) == 1
    crew = executor._crew
    assert crew is not None
    crew.tender.thread.join(30)  # type: ignore[union-attr]
    with pytest.raises(phalanx.RemoteError, match="cannot be pickled again"):
        view.submit(second, 2).result(20)
    assert executor.submit(abs, -3).result(20) == 3
    executor.shutdown()


def test_results_that_came_before_the_input_failed() -> None:
    def rows() -> Any:
        yield from range(300)
        raise LookupError("no more")

    with ProcessPoolExecutor(2, CTX) as executor:
        results = executor.map(abs, rows())
        assert [next(results) for _ in range(300)] == list(range(300))
        with pytest.raises(LookupError, match="no more"):
            next(results)


DAEMON = """
import joblib
from phalanx import multiprocessing

def work():
    print(joblib.Parallel(2, backend="phalanx")(joblib.delayed(abs)(-n) for n in range(3)))

if __name__ == "__main__":
    process = multiprocessing.Process(target=work, daemon=True)
    process.start()
    process.join()
"""


def test_joblib_in_a_daemon(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    assert output_of(DAEMON, tmp_path) == "[0, 1, 2]\n"
