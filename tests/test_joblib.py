"""The joblib backend."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import phalanx
from phalanx.concurrent.futures import _reusable

joblib = pytest.importorskip("joblib", reason="joblib is not installed")
Parallel, delayed = joblib.Parallel, joblib.delayed

# joblib's own resource tracker and sklearn speak in warnings of their own.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True, scope="module")
def no_workers_stay() -> Iterator[None]:
    """Other tests count processes."""
    yield
    if _reusable._current is not None:
        _reusable._current.shutdown()


def square(x: int) -> int:
    return x * x


def pid(_: Any = None) -> int:
    return os.getpid()


def test_by_its_name_without_another_import() -> None:
    with joblib.parallel_config(backend="phalanx", n_jobs=2):
        assert Parallel()(delayed(square)(i) for i in range(200)) == [i * i for i in range(200)]
        assert os.getpid() not in Parallel()(delayed(pid)() for _ in range(4))


ORDERS = ("import phalanx, joblib", "import joblib, phalanx", "import joblib, phalanx.threading", "import joblib")
PROGRAM = """
{imports}
def local(x):
    return Own(x + 1)
class Own:
    def __init__(self, x):
        self.x = x
class Odd(Exception):
    pass
def odd():
    raise Odd("of the main module")
print(sum(joblib.Parallel(n_jobs=2, backend="phalanx")(joblib.delayed(abs)(-i) for i in range(4))))
with joblib.parallel_config(backend="phalanx", n_jobs=2):
    print([own.x for own in joblib.Parallel()(joblib.delayed(local)(i) for i in range(3))])
    try:
        joblib.Parallel()([joblib.delayed(odd)()])
    except Odd as error:
        print(type(error).__name__, error, "in odd" in str(error.__cause__))
"""


@pytest.mark.parametrize(
    ("way", "imports"), [*(((), order) for order in ORDERS), (("-m", "phalanx", "run"), "import joblib")]
)
def test_a_program_without_a_guard(imports: str, way: tuple[str, ...], tmp_path: Any) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(imports=imports))
    done = subprocess.run([sys.executable, *way, str(script)], capture_output=True, text=True, timeout=55)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["6", "[1, 2, 3]", "Odd of the main module True"]


def test_the_import_of_phalanx_loads_no_joblib() -> None:
    code = "import sys, phalanx; assert 'joblib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == 0


def test_a_program_without_joblib_loads_nothing_of_ours() -> None:
    code = """
import sys
loaded = [name for name in sys.modules if "phalanx" in name]
assert loaded == ["_phalanx_joblib"], loaded
finder = sys.modules["_phalanx_joblib"]._Finder
import json, joblib
assert finder not in sys.meta_path and "phalanx._core" not in sys.modules and "phalanx.joblib" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == 0


def test_workers_stay_for_the_next_call() -> None:
    pids = [set(Parallel(n_jobs=2, backend="phalanx")(delayed(pid)() for _ in range(40))) for _ in range(3)]
    assert len(set().union(*pids)) <= 2


def test_generators() -> None:
    ordered = Parallel(n_jobs=2, backend="phalanx", return_as="generator")(delayed(square)(i) for i in range(20))
    first = next(ordered)
    # Another call in between takes nothing away.
    assert Parallel(n_jobs=3, backend="phalanx")(delayed(square)(i) for i in range(5)) == [0, 1, 4, 9, 16]
    assert [first, *ordered] == [i * i for i in range(20)]
    anyhow = Parallel(n_jobs=2, backend="phalanx", return_as="generator_unordered")
    assert sorted(anyhow(delayed(square)(i) for i in range(20))) == [i * i for i in range(20)]


@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
def test_batches(batch_size: Any) -> None:
    results = Parallel(n_jobs=2, backend="phalanx", batch_size=batch_size)(delayed(square)(i) for i in range(500))
    assert results == [i * i for i in range(500)]


def die_at(x: int, mark: str = "") -> int:
    if x == 3 and not os.path.exists(mark):
        if mark:
            open(mark, "x").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_a_death_says_who_and_the_next_call_works() -> None:
    with pytest.raises(phalanx.WorkerDied, match="SIGKILL"):
        Parallel(n_jobs=2, backend="phalanx", batch_size=1)(delayed(die_at)(i) for i in range(6))
    assert Parallel(n_jobs=2, backend="phalanx")(delayed(square)(i) for i in range(3)) == [0, 1, 4]


def test_a_death_with_retries_costs_nothing(tmp_path: Any) -> None:
    mark = str(tmp_path / "died")
    with joblib.parallel_config(backend="phalanx", n_jobs=2, retries=1):
        assert Parallel(batch_size=1)(delayed(die_at)(i, mark) for i in range(20)) == list(range(20))


def test_a_timeout_ends_what_runs() -> None:
    with pytest.raises((TimeoutError, joblib.parallel.TimeoutError)):
        Parallel(n_jobs=2, backend="phalanx", timeout=0.2)(delayed(signal.pause)() for _ in range(2))
    assert Parallel(n_jobs=2, backend="phalanx")(delayed(square)(i) for i in range(3)) == [0, 1, 4]


def nested(backend: str | None) -> list[int]:
    return list(Parallel(n_jobs=2, backend=backend)(delayed(square)(i) for i in range(4)))


@pytest.mark.parametrize("backend", [None, "threading", "phalanx"])
def test_nested(backend: str | None) -> None:
    rows = Parallel(n_jobs=2, backend="phalanx")(delayed(nested)(backend) for _ in range(4))
    assert rows == [[0, 1, 4, 9]] * 4


def test_from_threads() -> None:
    results: dict[int, Any] = {}

    def work(n: int) -> None:
        results[n] = Parallel(n_jobs=n, backend="phalanx")(delayed(square)(i) for i in range(50))

    threads = [threading.Thread(target=work, args=(n,)) for n in (2, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [i * i for i in range(50)] for n in (2, 3)}


def threads_variable() -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def test_inner_max_num_threads() -> None:
    with joblib.parallel_config(backend="phalanx", n_jobs=2, inner_max_num_threads=3):
        assert set(Parallel()(delayed(threads_variable)() for _ in range(4))) == {"3"}


def add_one(array: Any) -> Any:
    array += 1
    return array


def test_arrays_may_be_written_to_and_stay_as_they_are_here() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    array = numpy.zeros(1_000_000)
    one, two = Parallel(n_jobs=2, backend="phalanx")(delayed(add_one)(array) for _ in range(2))
    assert one.sum() == two.sum() == 1_000_000 and array.sum() == 0


def test_scikit_learn_unchanged() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score

    x, y = make_classification(n_samples=300, random_state=0)
    grid = {"C": [0.1, 1.0, 10.0]}
    with joblib.parallel_config(backend="sequential"):
        scores = cross_val_score(LogisticRegression(), x, y, cv=4)
        best = GridSearchCV(LogisticRegression(), grid, cv=3).fit(x, y).cv_results_["mean_test_score"]
    with joblib.parallel_config(backend="phalanx", n_jobs=2):
        assert (cross_val_score(LogisticRegression(), x, y, cv=4) == scores).all()
        assert (GridSearchCV(LogisticRegression(), grid, cv=3).fit(x, y).cv_results_["mean_test_score"] == best).all()
        forest = RandomForestClassifier(20, random_state=0)
        assert len(cross_val_score(forest, x, y, cv=3)) == 3
