"""Which function a worker calls, and with which state."""

from __future__ import annotations

import operator
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from tests.programs import output_of

from phalanx import multiprocessing as mp
from phalanx.concurrent.futures import ProcessPoolExecutor
from phalanx.multiprocessing._bundles import has_state

CTX = mp.get_context("fork")
pytestmark = pytest.mark.timeout(60)
MANY = 300

VERBS: dict[str, Callable[[Any, Any], list[Any]]] = {
    "map": lambda pool, function: list(pool.map(function, range(MANY), chunksize=1)),
    "imap": lambda pool, function: list(pool.imap(function, range(MANY))),
    "apply_async": lambda pool, function: [
        one.get() for one in [pool.apply_async(function, (i,)) for i in range(MANY)]
    ],
}


@pytest.fixture
def hasty() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def named(number: int) -> Any:
    """A function that a worker finds by its name."""

    def function(x: int) -> tuple[int, int]:
        return number, x

    function.__name__ = function.__qualname__ = f"function_{number}"
    assert isinstance(function, FunctionType)
    return function


FUNCTIONS = [named(number) for number in range(8)]
globals().update({function.__name__: function for function in FUNCTIONS})


def test_threads_that_bring_functions_of_their_own_get_those_called(hasty: None) -> None:
    wrong: list[Any] = []
    for _ in range(20):
        with CTX.Pool(2) as pool:
            gate = threading.Barrier(8)

            def client(number: int, pool: Any = pool, gate: Any = gate) -> None:
                gate.wait()
                wrong.extend(
                    (number, got) for i in range(3) if (got := pool.apply(FUNCTIONS[number], (i,))) != (number, i)
                )

            threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert not wrong


class Counting:
    """A callable that knows how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: Any) -> int:
        self.calls += 1
        return self.calls

    def method(self, _: Any) -> int:
        return self(_)


def grow(items: list[int], x: int) -> int:
    items.append(x)
    return len(items)


def add(x: int, y: int) -> int:
    return x + y


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "function", [Counting(), Counting().method, partial(grow, [])], ids=["object", "method", "partial"]
)
def test_each_task_has_a_copy_of_its_own_of_what_it_calls(function: Any, verb: str) -> None:
    with CTX.Pool(2) as pool:
        assert VERBS[verb](pool, function) == [1] * MANY


@pytest.mark.parametrize("function", [Counting(), partial(grow, [])], ids=["object", "partial"])
def test_each_call_of_an_executor_too(function: Any) -> None:
    with ProcessPoolExecutor(2, CTX) as executor:
        assert list(executor.map(function, range(MANY))) == [1] * MANY
        assert [one.result() for one in [executor.submit(function, i) for i in range(MANY)]] == [1] * MANY


def test_what_has_state() -> None:
    stateless = [add, len, str.upper, int, operator.itemgetter(1), partial(add, 1), partial(add, y="x"), dict.fromkeys]
    assert not any(map(has_state, stateless))
    marked = partial(add, 1)
    marked.note = []  # type: ignore[attr-defined]
    stateful = [Counting(), Counting().method, [].append, partial(grow, []), partial(Counting(), 1), marked, object()]
    assert all(map(has_state, stateful))


LATE = """
from phalanx import multiprocessing as mp
from phalanx.concurrent.futures import ProcessPoolExecutor

CALLS = [
    lambda late: pool.apply(late, (1,)),
    lambda late: pool.map(late, [1])[0],
    lambda late: next(pool.imap(late, [1])),
    lambda late: executor.submit(late, 1).result(),
    lambda late: next(executor.map(late, [1])),
]

if __name__ == "__main__":
    context = mp.get_context("fork")
    with context.Pool(1) as pool, ProcessPoolExecutor(1, context) as executor:
        pool.apply(abs, (-1,))
        executor.submit(abs, -1).result()
        for number, call in enumerate(CALLS):
            exec(f"def late_{number}(x): return x + {number}", globals())
            print(call(globals()[f"late_{number}"]))
"""


def test_a_function_that_is_defined_once_the_workers_run(tmp_path: Path) -> None:
    assert output_of(LATE, tmp_path).split() == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("number", [0, 1, 2, True])
def test_a_number_is_no_function(number: Any) -> None:
    with CTX.Pool(1) as pool, ProcessPoolExecutor(1, CTX) as executor:
        assert pool.map(add, []) == [] and pool.apply(add, (1, 2)) == executor.submit(add, 1, 2).result() == 3
        for call in (
            lambda: pool.apply(number, (3,)),
            lambda: pool.map(number, [3, 4], chunksize=1),
            lambda: executor.submit(number, 3).result(),
            lambda: list(executor.map(number, [3])),
        ):
            with pytest.raises(TypeError, match="object is not callable"):
                call()
