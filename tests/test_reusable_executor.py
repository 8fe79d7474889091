"""`phalanx.get_reusable_executor()`."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import phalanx
from phalanx.concurrent.futures import _reusable
from phalanx.multiprocessing import get_context


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    if _reusable._current is not None:
        _reusable._current.shutdown()


def pid(_: Any = None) -> int:
    return os.getpid()


def pids(executor: Any) -> set[int]:
    return {row["pid"] for row in executor.statistics()}


def begin(event: str = "") -> None:
    os.environ["BEGUN"] = event


def variable(name: str) -> str | None:
    return os.environ.get(name)


def test_the_same_workers_for_every_call() -> None:
    executor = phalanx.get_reusable_executor(2)
    list(executor.map(pid, range(8)))
    before = pids(executor)
    assert phalanx.get_reusable_executor(2) is executor
    list(executor.map(pid, range(8)))
    assert pids(executor) == before


def test_other_parameters_replace_it_and_what_was_submitted_is_done() -> None:
    read, write = os.pipe()
    old = phalanx.get_reusable_executor(1)
    futures = [old.submit(os.read, read, 1) for _ in range(3)]
    new = phalanx.get_reusable_executor(2)
    assert new is not old and new._max_workers == 2
    os.write(write, b"abc")
    assert b"".join(future.result() for future in futures) == b"abc"
    with pytest.raises(RuntimeError):
        old.submit(pid)
    begun = phalanx.get_reusable_executor(2, initializer=begin, initargs=("x",))
    assert begun is not new and begun.submit(variable, "BEGUN").result() == "x"
    assert phalanx.get_reusable_executor(2, initializer=begin, initargs=("x",)) is begun
    assert phalanx.get_reusable_executor(reuse=True) is begun
    assert phalanx.get_reusable_executor(2, reuse=False) is not begun
    os.close(read)
    os.close(write)


def test_kill_workers_ends_what_runs() -> None:
    read, write = os.pipe()
    old = phalanx.get_reusable_executor(1)
    future = old.submit(os.read, read, 1)
    phalanx.get_reusable_executor(2, kill_workers=True)
    with pytest.raises(Exception, match="ended"):
        future.result()
    os.close(read)
    os.close(write)


def test_a_dead_worker_costs_its_task_only() -> None:
    executor = phalanx.get_reusable_executor(2)
    with pytest.raises(phalanx.WorkerDied):
        executor.submit(os.kill, executor.submit(pid).result(), signal.SIGKILL) and executor.submit(os.abort).result()
    assert phalanx.get_reusable_executor(2) is executor
    assert executor.submit(abs, -1).result() == 1


def broken_start() -> None:
    raise ValueError("not today")


def test_one_that_is_broken_or_was_shut_down_is_replaced() -> None:
    executor = phalanx.get_reusable_executor(1, initializer=broken_start)
    with pytest.raises(Exception, match="not today"):
        executor.submit(pid).result()
    other = phalanx.get_reusable_executor(1, initializer=broken_start)
    assert other is not executor
    other.shutdown()
    assert phalanx.get_reusable_executor(1, initializer=broken_start) is not other


def test_idle_workers_go_and_the_next_call_has_new_ones() -> None:
    executor = phalanx.get_reusable_executor(1, timeout=0.05)
    first = executor.submit(pid).result()
    with _pidfd(first) as handle:
        assert select.select([handle], [], [], 30)[0], "the worker has not gone"
    assert phalanx.get_reusable_executor(1, timeout=0.05) is executor
    assert executor.submit(pid).result() != first


class _pidfd:  # noqa: N801
    def __init__(self, pid: int) -> None:
        try:
            self._file = os.pidfd_open(pid)
        except ProcessLookupError:
            self._file = os.open("/dev/null", os.O_RDONLY)  # gone already: ready at once

    def __enter__(self) -> int:
        return self._file

    def __exit__(self, *exc: object) -> None:
        os.close(self._file)


def test_from_many_threads() -> None:
    found: list[Any] = []
    sums: list[int] = []
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait()
        executor = phalanx.get_reusable_executor(2)
        found.append(executor)
        sums.append(sum(executor.map(abs, range(-50, 0))))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert sums == [1275] * 8


def in_child(results: Any) -> None:
    executor = phalanx.get_reusable_executor(1)
    results.put(executor.submit(pid).result())


def test_a_child_has_its_own() -> None:
    executor = phalanx.get_reusable_executor(1)
    ours = executor.submit(pid).result()
    context = get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=in_child, args=(results,))
    child.start()
    theirs = results.get()
    child.join()
    assert (child.exitcode, theirs != ours) == (0, True)
    assert executor.submit(pid).result() == ours


@pytest.mark.parametrize("reuse", ["never", 7])
def test_wrong_parameters(reuse: Any) -> None:
    with pytest.raises(ValueError, match="reuse"):
        phalanx.get_reusable_executor(1, reuse=reuse)
    with pytest.raises(ValueError, match="timeout"):
        phalanx.get_reusable_executor(1, timeout=0)


PROGRAM = """
import os, phalanx
print(phalanx.get_reusable_executor(2).submit(os.getpid).result())
"""


def test_it_ends_with_the_interpreter() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert not os.path.exists(f"/proc/{done.stdout.strip()}")


def idle_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "phalanx-idle"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("end", ["shutdown", "replaced", "kill_workers"])
def test_nothing_waits_for_an_executor_that_has_ended(end: str) -> None:
    others = idle_threads()
    executor = phalanx.get_reusable_executor(1, "fork", timeout=600)
    assert executor.submit(abs, -1).result(20) == 1
    waiting = idle_threads() - others
    assert waiting
    if end == "replaced":
        phalanx.get_reusable_executor(1, "fork", timeout=601)
    else:
        getattr(executor, end)()
    for thread in waiting:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.timeout(60)
def test_workers_that_go_take_no_call_with_them() -> None:
    executor = phalanx.get_reusable_executor(1, "fork", timeout=0.002)
    found: list[int] = []

    def ask(first: int) -> None:
        found.extend(executor.submit(abs, -n).result(20) for n in range(first, first + 100))

    threads = [threading.Thread(target=ask, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert sorted(found) == list(range(300))
