"""What is odd in a program and must hurt nobody else: forks in tasks, locks in pickles, strange exceptions."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, Future
from itertools import count
from typing import Any

import pytest
from tests.programs import run

import phalanx
from phalanx import get_reusable_executor
from phalanx import multiprocessing as mp
from phalanx.concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from phalanx.multiprocessing.pool import ThreadPool

CTX = mp.get_context("fork")
pytestmark = pytest.mark.timeout(60)


def same(x: Any) -> Any:
    return x


def nothing(_: Any) -> None:
    pass


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def pools() -> list[Any]:
    return [CTX.Pool(2), ThreadPool(2)]


# ---------------------------------------------------------------- forks and descriptors in tasks


def forks(how: str, n: int) -> tuple[str, int]:
    pid = os.fork()
    if pid == 0:
        if how == "exits":
            sys.exit(0)
        if how == "raises":
            os.close(2)  # its traceback is its own affair
            raise ValueError(n)
        if how == "interrupts":
            os.close(2)
            raise KeyboardInterrupt
        return "child", n
    os.waitpid(pid, 0)
    return "parent", n


@pytest.mark.parametrize("how", ["exits", "raises", "interrupts", "returns"])
def test_the_child_of_a_task_is_no_worker(how: str) -> None:
    with CTX.Pool(2) as pool:
        pairs = [(how, n) for n in range(40)]
        expected = [("parent", n) for n in range(40)]
        assert pool.starmap(forks, pairs[:4], 1) == expected[:4]
        assert pool.map(same, range(500), 1) == list(range(500))  # short ones travel together from here on
        assert [pool.apply(forks, pair) for pair in pairs[:4]] == expected[:4]
        results = [pool.apply_async(forks, pair) for pair in pairs]
        assert [result.get(20) for result in results] == expected


def linger(seconds: float) -> None:
    if os.fork() == 0:
        time.sleep(seconds)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_death_is_seen_although_a_child_of_the_worker_lives() -> None:
    with ProcessPoolExecutor(1, CTX) as executor:
        began = time.monotonic()
        with pytest.raises(phalanx.WorkerDied):
            executor.submit(linger, 30).result(20)
        assert time.monotonic() - began < 20


def close_all(_: Any) -> int:
    os.closerange(3, 1000)
    return 1


def test_a_worker_that_closes_every_descriptor_works_on() -> None:
    told: list[int] = []
    with ProcessPoolExecutor(1, CTX) as executor:
        assert executor.submit(close_all, 0).result(20) == 1
        futures = [executor.submit(abs, -n) for n in range(5)]
        for future in futures:
            future.add_done_callback(lambda future: told.append(future.result()))
        assert not wait(futures, 20).not_done
    assert sorted(told) == list(range(5))


class Mine:
    """A socket of a task, under the number that the bell had."""

    pair: Any = ()


def reopen(bell: int) -> None:
    near, far = socket.socketpair()
    os.dup2(near.fileno(), bell)
    far.setblocking(False)
    Mine.pair = near, socket.socket(fileno=bell), far


def came(_: Any) -> bytes:
    try:
        return bytes(Mine.pair[-1].recv(10))
    except BlockingIOError:
        return b""


def test_nothing_is_written_to_a_socket_that_a_task_opens_in_the_place_of_the_bell() -> None:
    with ProcessPoolExecutor(1, CTX) as executor:
        executor.submit(abs, 0).result(20)
        assert executor._crew is not None
        executor.submit(reopen, executor._crew.tender.bell).result(20)
        told = threading.Event()
        for _ in range(2):  # nobody but the pool's own thread waits, so the worker would ring
            executor.submit(abs, -1).add_done_callback(lambda _: told.set())
            assert told.wait(20)
            told.clear()
        assert executor.submit(came, 0).result(20) == b""


# ---------------------------------------------------------------- code of the program in pickles

lock = threading.Lock()


class Locked:
    """Wants a lock to be pickled, and to be loaded in the process that has made it."""

    def __init__(self, home: int) -> None:
        self.home = home

    def __getstate__(self) -> int:
        with lock if self.home == os.getpid() else contextlib.nullcontext():
            return self.home

    def __setstate__(self, home: int) -> None:
        with lock if home == os.getpid() else contextlib.nullcontext():
            self.home = home


def test_pickling_may_want_a_lock_that_a_submitter_holds() -> None:
    home, errors = os.getpid(), []
    with ProcessPoolExecutor(2, CTX) as executor:
        executor.submit(same, 1).result(20)

        def run_all(with_lock: bool) -> None:
            try:
                for _ in range(100):
                    with lock if with_lock else contextlib.nullcontext():
                        future = executor.submit(same, 1 if with_lock else Locked(home))
                    future.result(20)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run_all, args=(one,), daemon=True) for one in (True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(40)
            assert not thread.is_alive()
    assert not errors


class Lazy:
    """Asks for the result of another call when it is pickled."""

    def __init__(self, future: Any) -> None:
        self.future = future

    def __reduce__(self) -> Any:
        return int, (self.future.result(),)


def test_pickling_may_wait_for_another_call() -> None:
    with ProcessPoolExecutor(2, CTX) as executor:
        first = executor.submit(same, 3)
        first.add_done_callback(lambda _: None)
        assert executor.submit(same, Lazy(first)).result(20) == 3


def test_a_map_dropped_by_the_collector_submits_the_rest_in_the_middle_of_anything() -> None:
    class Node:
        pass

    with ProcessPoolExecutor(2, CTX) as executor:
        for _ in range(60):
            node: Any = Node()
            node.itself, node.results = node, executor.map(same, range(200))
            futures = [executor.submit(same, {"g": n, "many": [[] for _ in range(300)]}) for n in range(60)]
            del node
            assert [future.result(20)["g"] for future in futures] == list(range(60))
        gc.collect()


def test_an_endless_map_ends_with_its_loop() -> None:
    with ProcessPoolExecutor(2, CTX) as executor:
        for n in executor.map(same, count()):
            if n == 10:
                break
        assert executor.submit(same, 1).result(20) == 1


# ---------------------------------------------------------------- strange exceptions and callables


class Frozen(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unloadable:
    def __reduce__(self) -> Any:
        return unload, ()


def unload() -> None:
    raise Wordless


class Shy:
    """A callable that has no attribute, and says so in the wrong way."""

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)

    def __reduce__(self) -> Any:
        return Shy, ()

    def __call__(self, n: int) -> None:
        raise ValueError(n)


def fail_frozen(n: int) -> None:
    raise Frozen(n)


def unloadable(_: int) -> Unloadable:
    return Unloadable()


def cancelled(_: int) -> None:
    raise CancelledError("mine")


class Nasty:
    def __reduce__(self) -> Any:
        raise SystemExit("from a pickle")


@pytest.mark.parametrize("call_back", [False, True])
def test_each_strange_failure_is_that_of_its_own_call(call_back: bool) -> None:
    cases: list[tuple[Any, Any, type[BaseException]]] = [
        (fail_frozen, 1, Frozen),
        (Shy(), 2, ValueError),
        (unloadable, 3, phalanx.RemoteError),
        (cancelled, 4, CancelledError),
        (same, Nasty(), SystemExit),
    ]
    with ProcessPoolExecutor(2, CTX) as executor:
        for function, argument, kind in cases * 3:
            before = [executor.submit(same, n) for n in range(50)]
            odd = executor.submit(function, argument)
            if call_back:
                odd.add_done_callback(lambda _: None)
            after = [executor.submit(same, n) for n in range(50)]
            assert [future.result(20) for future in (*before, *after)] == [*range(50), *range(50)]
            assert isinstance(odd.exception(20), kind) and not odd.cancelled()
    with CTX.Pool(2) as pool:
        for function, argument, kind in cases:
            with pytest.raises(kind):
                pool.apply_async(function, (argument,)).get(20)
        assert pool.map(same, range(50)) == list(range(50))


def stop(n: int) -> int:
    if n == 5:
        raise StopIteration
    return n


@pytest.mark.parametrize("size", [None, 1, 4, 100])
def test_stop_iteration_is_no_end(size: int | None) -> None:
    for pool in pools():
        with pool, pytest.raises(StopIteration):
            pool.map_async(stop, range(20), size).get(20)
    with CTX.Pool(2) as pool, pytest.raises(RuntimeError, match="StopIteration"):
        list(pool.imap(stop, range(20), size or 1))


def test_an_item_of_a_starmap_that_is_not_iterable() -> None:
    for pool in pools():
        with pool:
            told: list[Any] = []
            result = pool.starmap_async(same, [(1,)] * 1500 + [7] + [(1,)] * 500, 1, error_callback=told.append)
            with pytest.raises(TypeError):
                result.get(20)
            assert len(told) == 1


def test_items_that_travel_alone_do_not_stop_a_map() -> None:
    with CTX.Pool(2) as pool:
        items = [(lambda: 1) if n > 2000 and n % 30 == 0 else n for n in range(8000)]
        assert pool.map_async(nothing, items, 1).get(40) == [None] * 8000


# ---------------------------------------------------------------- the end of a pool


def test_terminated_while_a_map_is_fed() -> None:
    for turn in range(12):
        pool: Any = ThreadPool(2) if turn % 2 else CTX.Pool(2)
        results = [pool.map_async(same, range(20_000), 1) for _ in range(2)]
        time.sleep(0.002 * (turn // 2))
        pool.terminate()
        for result in results:
            with contextlib.suppress(CancelledError):
                assert result.get(20) == list(range(20_000))


def slow_at(n: int) -> int:
    if n == 3000:
        time.sleep(60)
    return n


def test_terminated_over_a_bundle_that_has_told_some_results() -> None:
    pool = CTX.Pool(2)
    assert pool.map(same, range(2000), 1) == list(range(2000))
    result: Any = pool.map_async(slow_at, range(5000), 1)
    seen: Any = pool.imap_unordered(slow_at, range(5000))
    deadline = time.monotonic() + 20
    while result._ended < 3000 and time.monotonic() < deadline:
        result.wait(0.05)
    pool.terminate()
    with pytest.raises(CancelledError):
        result.get(20)
    got: list[int] = []
    while True:
        try:
            got.append(seen.next(20))
        except StopIteration:
            break
        except CancelledError:
            pass
    assert len(set(got)) == len(got)


@pytest.mark.parametrize("kind", ["list", "slow", "blocked"])
def test_an_imap_ends_with_its_pool(kind: str) -> None:
    go = threading.Event()

    def slowly() -> Any:
        for n in count():
            if kind == "blocked" and n == 3:
                go.wait(30)
            time.sleep(0.001)
            yield n

    for pool in pools():
        results: Any = pool.imap(same, list(range(100_000)) if kind == "list" else slowly())
        assert results.next(20) == 0
        pool.terminate()
        while True:
            try:
                results.next(20)
            except CancelledError:
                continue
            except StopIteration:
                break
        go.set()


def bad_start() -> None:
    raise ValueError("no start")


def test_threads_that_cannot_begin_end_every_map() -> None:
    pool = ThreadPool(2, bad_start)
    for make in (lambda: pool.map_async(same, range(1000)), lambda: pool.map_async(same, range(1000), 1)):
        with contextlib.suppress(ValueError):  # here, or at the call once it is known
            make().get(20)
            raise AssertionError("nobody has done that")
    pool.terminate()


def test_a_result_of_a_thread_stays_what_it_was() -> None:
    with ThreadPool(1) as pool:
        result = pool.options(timeout=0.05).apply_async(nap, (0.3,))
        with pytest.raises(TimeoutError):
            result.get(20)
        pool.terminate()
        with pytest.raises(TimeoutError):
            result.get(20)


def test_an_error_callback_that_exits_does_not_keep_others_from_their_end(monkeypatch: Any) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    for pool in pools():
        results = [pool.apply_async(nap, (30 if n < 2 else 0,), error_callback=lambda _: sys.exit(1)) for n in range(6)]
        time.sleep(0.05)
        pool.terminate()
        for result in results:
            with contextlib.suppress(CancelledError):
                result.get(20)


LATE = """
import atexit, multiprocessing
from multiprocessing.pool import ThreadPool
def die(_): os._exit(3)
def slow(_): time.sleep(30)
def late():
    for result in (pool.apply_async(die, (1,)), pool.options(timeout=.1).apply_async(slow, (1,))):
        try: result.get(10)
        except BaseException as error: print(type(error).__name__)
pool = multiprocessing.get_context("fork").Pool(2)
threads = ThreadPool(1)
atexit.register(late)
"""


def test_errors_that_are_first_needed_at_the_very_end() -> None:
    assert run(LATE, deadline=40.0) == (0, "WorkerDied\nTaskTimeout\n", "")


# ---------------------------------------------------------------- options


def lookup(table: Any, key: str) -> Any:
    return table[key]


def test_a_shared_object_is_the_one_of_its_view() -> None:
    executor = get_reusable_executor(1, CTX, timeout=0.05, reuse=False)
    try:
        first = executor.options(shared={"a": 1})
        assert first.submit(lookup, "a").result(20) == 1
        deadline = time.monotonic() + 20
        while executor._crew is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert executor._crew is None, "the workers rest"
        second = executor.options(shared={"a": 2})
        assert [one.submit(lookup, "a").result(20) for one in (first, second)] == [1, 2]
    finally:
        executor.shutdown()


def test_a_child_does_not_change_what_its_parent_has_shared() -> None:
    with CTX.Pool(1) as pool:
        pid = os.fork()
        if pid == 0:
            pool.options(shared={"a": "child"})
            os._exit(0)
        view = pool.options(shared={"a": "parent"})
        os.waitpid(pid, 0)
        assert view.map(lookup, ["a", "a"]) == ["parent", "parent"]


def nested(_: int) -> list[Any]:
    assert own is not None
    return [
        own.map(same, range(1000), 1) == list(range(1000)),
        own.map(same, range(1000)) == list(range(1000)),
        list(own.imap(same, (n for n in range(200)))) == list(range(200)),
        list(own.imap_unordered(same, range(200), 7)) == list(range(200)),
    ]


own: Any = None


def test_every_verb_of_a_workers_own_pool() -> None:
    global own
    own = CTX.Pool(2)
    # Started anew, so that the workers know it.
    own._repopulate_pool()
    with own:
        for worker in own._pool[:]:
            os.kill(worker.pid, signal.SIGKILL)
        assert own.map_async(nested, range(2), 1).get(40) == [[True] * 4] * 2


def test_progress_that_shuts_down_or_waits_for_results() -> None:
    for executor in (ThreadPoolExecutor(2), ProcessPoolExecutor(2, CTX)):

        def end(done: int, _: Any, executor: Any = executor) -> None:
            if done == 3:
                executor.shutdown(wait=False, cancel_futures=True)

        with executor, contextlib.suppress(CancelledError, RuntimeError):
            list(executor.options(on_progress=end).map(nap, [0.001] * 200))
    told: list[int] = []
    with ProcessPoolExecutor(2, CTX) as one:
        first = one.submit(nap, 0.01)
        items = (first.result(20) and n for n in range(400))
        view = one.options(on_progress=lambda done, _: told.append(done))
        assert list(view.map(same, items)) == list(range(400))
        deadline = time.monotonic() + 20
        while len(told) < 400 and time.monotonic() < deadline:
            time.sleep(0.005)
    assert sorted(told) == list(range(1, 401))


def test_progress_of_an_imap_that_raises_costs_no_item() -> None:
    def bad(_: int, __: Any) -> None:
        raise ValueError("progress")

    for pool in pools():
        with pool:
            results: Any = pool.options(on_progress=bad).imap(same, range(10))
            got: list[Any] = []
            while True:
                try:
                    got.append(results.next(20))
                except ValueError:
                    got.append("progress")
                except StopIteration:
                    break
            assert sorted(map(str, got)) == sorted([*map(str, range(10)), "progress"])


def test_numbers_that_are_too_large_or_none() -> None:
    with ThreadPool(1) as threads, CTX.Pool(1) as pool, ThreadPoolExecutor(1) as executor:
        for one in (threads, pool):
            assert one.options(timeout=float("inf")).apply(same, (1,)) == 1
        assert executor.options(timeout=1e300).submit(same, 1).result(20) == 1
        with pytest.raises(ValueError, match="memory"):
            pool.options(memory=1 << 63)
    with pytest.raises(TypeError):
        CTX.Pool(1.5)
    with ProcessPoolExecutor(1, CTX) as processes:
        with pytest.raises(TypeError):
            processes.map(same, [1], chunksize=1.5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(processes)


REVOKED = """
from phalanx.concurrent.futures import ProcessPoolExecutor
from phalanx import multiprocessing as mp
import sys, time
def nap(x, go=None): time.sleep(x); return x
def one(x=0): return x
if __name__ == "__main__":
    executor = ProcessPoolExecutor(1, mp.get_context("spawn"), max_tasks_per_child=1)
    first = executor.submit(nap, 1)
    while not first.running(): time.sleep(0.01)
    rest = [executor.submit(one, x=i) for i in range(1100)]
    print(sum(r.cancel() for r in rest[:1095]), first.result(20), [r.result(20) for r in rest[1095:]])
    executor.shutdown()
"""


def test_cancelled_calls_leave_room_for_others(tmp_path: Any) -> None:
    program = tmp_path / "program.py"
    program.write_text(REVOKED)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=55)
    assert (done.stdout, done.stderr) == ("1095 1 [1095, 1096, 1097, 1098, 1099]\n", ""), done.stderr


def test_two_threads_may_tell_that_a_call_was_cancelled() -> None:
    errors: list[BaseException] = []
    with ProcessPoolExecutor(1, CTX) as executor:
        executor.submit(same, 1).result(20)
        future: Any = type(executor.submit(same, 1))(0, same, (1,))
        future._crew = executor._crew
        assert future.cancel() is False  # it was never handed in
        Future.cancel(future)

        def tell() -> None:
            try:
                future._tell_cancelled()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=tell)
        with future._condition:
            thread.start()
            thread.join(0.1)  # it waits for the condition, whatever it has seen before
            future.set_running_or_notify_cancel()
        thread.join(20)
    assert not errors and not thread.is_alive()
