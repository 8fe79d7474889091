"""Our pools and contexts in the hands of other libraries. joblib has a file of its own."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
from typing import Any

import pytest

import phalanx.concurrent.futures
from phalanx.concurrent.futures import ProcessPoolExecutor
from phalanx.multiprocessing import get_context
from phalanx.multiprocessing.pool import Pool, ThreadPool


def pid(_: Any = None) -> int:
    return os.getpid()


def double(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("make", [ProcessPoolExecutor, Pool, ThreadPool])
@pytest.mark.parametrize("setting", ["pool", "scheduler"])
@pytest.mark.filterwarnings("default")
def test_dask(make: Any, setting: str) -> None:
    dask = pytest.importorskip("dask", reason="dask is not installed")
    if setting == "scheduler" and make is not ProcessPoolExecutor:
        pytest.skip("dask takes executors only as a scheduler")
    tasks = [dask.delayed(double)(i) for i in range(20)]
    who = dask.delayed(pid)()
    with make(2) as pool:
        given = {"scheduler": "processes"} if setting == "pool" and make is not ThreadPool else {}
        with dask.config.set(**{**given, setting: pool}):
            assert dask.delayed(sum)(tasks).compute() == 380
            there = who.compute()
            assert dask.compute(*tasks) == tuple(range(0, 40, 2))
    assert (there == os.getpid()) == (make is ThreadPool)


TORCH = """
import sys, torch
from torch.utils.data import DataLoader, TensorDataset
from phalanx.multiprocessing import get_context
if __name__ == "__main__":
    data = TensorDataset(torch.arange(100.).reshape(50, 2))
    context = get_context(sys.argv[1])
    for _ in range(2):
        print(sum(float(b.sum()) for b, in DataLoader(data, 5, num_workers=2, multiprocessing_context=context)))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_torch(method: str, tmp_path: Any) -> None:
    pytest.importorskip("torch", reason="torch is not installed: it is too large for CI")
    script = tmp_path / "load.py"
    script.write_text(TORCH)
    done = subprocess.run([sys.executable, str(script), method], capture_output=True, text=True, timeout=55)
    assert (done.returncode, done.stdout) == (0, "4950.0\n4950.0\n"), done.stderr


def test_interpreter_pools_are_the_standard_ones_or_say_what_they_need() -> None:
    if sys.version_info >= (3, 14):
        ours: Any = phalanx.concurrent.futures
        assert ours.InterpreterPoolExecutor is concurrent.futures.InterpreterPoolExecutor
        return
    with pytest.raises(AttributeError, match=r"needs Python 3\.14"):
        phalanx.concurrent.futures.InterpreterPoolExecutor  # noqa: B018
    with pytest.raises(ImportError, match="InterpreterPoolExecutor"):
        from phalanx.concurrent.futures import InterpreterPoolExecutor  # noqa: F401


def begin_and_leave_open(results: Any) -> None:
    global _kept
    _kept = ProcessPoolExecutor(1)
    results.put(_kept.submit(double, 4).result())


_kept: Any = None


def test_a_child_may_leave_an_executor_open() -> None:
    context = get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=begin_and_leave_open, args=(results,))
    child.start()
    assert results.get() == 8
    child.join(40)
    assert child.exitcode == 0
