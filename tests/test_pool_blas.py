"""The BLAS threads of workers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from phalanx.concurrent.futures import ProcessPoolExecutor
from phalanx.multiprocessing import _blas, get_context

pytest.importorskip("numpy", reason="numpy is not installed")
threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*_blas.VARIABLES, "PHALANX_BLAS_THREADS"):
        monkeypatch.delenv(name, raising=False)


def told() -> set[int]:
    import numpy as np

    np.ones((4, 4)) @ np.ones((4, 4))
    return {library["num_threads"] for library in threadpoolctl.threadpool_info()}


def variable(name: str) -> str | None:
    return os.environ.get(name)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_held_to_cores_by_workers(method: str) -> None:
    workers = 2
    with get_context(method).Pool(workers) as pool:
        assert pool.apply(told) == {max(1, len(os.sched_getaffinity(0)) // workers)}


def test_what_is_chosen_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHALANX_BLAS_THREADS", "3")
    with get_context("fork").Pool(2) as pool:
        assert pool.apply(told) == {3}
    monkeypatch.setenv("PHALANX_BLAS_THREADS", "1")  # no library takes more than there are cores from the environment
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        assert executor.submit(told).result() == {1}


def test_left_alone_on_request_and_where_the_user_has_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _blas.share(2, 8) == 4
    assert _blas.share(16, 8) == 1
    monkeypatch.setenv("PHALANX_BLAS_THREADS", "0")
    assert _blas.share(2, 8) is None
    with get_context("fork").Pool(2) as pool:
        assert pool.apply(told) == told()
        assert pool.apply(variable, ("OMP_NUM_THREADS",)) is None
    monkeypatch.delenv("PHALANX_BLAS_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert _blas.share(2, 8) is None
    with get_context("fork").Pool(2) as pool:
        assert pool.apply(variable, ("OMP_NUM_THREADS",)) == "5"


def test_a_word_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHALANX_BLAS_THREADS", "many")
    with pytest.raises(ValueError, match="PHALANX_BLAS_THREADS"):
        get_context("fork").Pool(1)


def nested() -> int | None:
    with get_context("fork").Pool(2) as pool:
        return pool.apply(inner)


def inner() -> int | None:
    return _blas._own


def test_pools_in_workers_divide_what_the_worker_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as executor:
        assert executor.submit(nested).result() == max(1, len(os.sched_getaffinity(0)) // 2)


LATER = """
import sys
from phalanx.multiprocessing import get_context
def told():
    import numpy, threadpoolctl
    return {library["num_threads"] for library in threadpoolctl.threadpool_info()}
if __name__ == "__main__":
    assert "numpy" not in sys.modules
    with get_context("fork").Pool(64) as pool:
        print(pool.apply(told))
"""


def test_numpy_that_comes_later_is_held_too() -> None:
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.returncode) == ("{1}\n", 0), done.stderr
