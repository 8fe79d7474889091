"""Small tasks of a map travel together; everybody sees each as if it had gone alone."""

from __future__ import annotations

import itertools
import os
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phalanx import multiprocessing as mp
from phalanx.multiprocessing._bundles import Pace
from phalanx.multiprocessing.pool import MaybeEncodingError, ThreadPool

MANY = 3_000


def same(n: int) -> int:
    return n


def third_is_bad(n: int) -> int:
    if n % 700 == 3:
        raise ValueError(n)
    return n


def add(*parts: int) -> int:
    return sum(parts)


def unsendable_at(n: int) -> Any:
    return (lambda: n) if n == 1_000 else n


def waits_for(arguments: tuple[int, str]) -> int:
    n, path = arguments
    while n == 1_500 and not os.path.exists(path):
        time.sleep(0.001)
    return n


class BadLoad:
    def __reduce__(self) -> Any:
        return (int, ("no number",))


def many_at_once(pool: Any) -> None:
    """Let the pool learn that tasks are short."""
    assert pool.map(same, range(500), chunksize=1) == list(range(500))


@pytest.fixture
def pool() -> Iterator[Any]:
    with mp.get_context("fork").Pool(2) as pool:
        yield pool


def test_results_are_in_order_and_complete(pool: Any) -> None:
    assert pool.map(same, range(MANY), chunksize=1) == list(range(MANY))
    assert list(pool.imap(same, range(MANY))) == list(range(MANY))
    assert list(pool.imap(same, iter(range(MANY)))) == list(range(MANY))
    assert list(pool.imap(same, (n for n in range(MANY)))) == list(range(MANY))
    assert sorted(pool.imap_unordered(same, range(MANY))) == list(range(MANY))
    pairs = [[n, n] for n in range(MANY)]
    assert pool.starmap(add, pairs, chunksize=1) == [2 * n for n in range(MANY)]


def test_tasks_do_travel_together(pool: Any) -> None:
    posted: list[int] = []
    crew = pool._crew
    original = crew.board.pack_many

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(board, name)

        def pack_many(self, function: Any, items: tuple[Any, ...], mode: int) -> Any:
            posted.append(len(items))
            return original(function, items, mode)

    board, crew.board = crew.board, Watched()
    try:
        for _ in range(50):
            assert pool.map(same, range(MANY), chunksize=1) == list(range(MANY))
            if max(posted) > 8:
                break
    finally:
        crew.board = board
    assert max(posted) > 8


def test_a_failure_is_its_own_tasks(pool: Any) -> None:
    with pytest.raises(ValueError, match="3"):
        pool.map(third_is_bad, range(MANY), chunksize=1)
    for source in (range(MANY), (n for n in range(MANY))):
        answers, good, bad = pool.imap(third_is_bad, source), [], []
        while True:
            try:
                good.append(next(answers))
            except StopIteration:
                break
            except ValueError as error:
                bad += error.args
        assert bad == [n for n in range(MANY) if n % 700 == 3]
        assert good == [n for n in range(MANY) if n % 700 != 3]


def test_a_result_that_cannot_be_pickled_is_its_own_tasks(pool: Any) -> None:
    many_at_once(pool)
    answers = pool.imap(unsendable_at, range(2_000))
    assert [next(answers) for _ in range(1_000)] == list(range(1_000))
    with pytest.raises(MaybeEncodingError):
        next(answers)
    assert list(answers) == list(range(1_001, 2_000))


def test_an_argument_that_cannot_be_pickled_or_loaded(pool: Any) -> None:
    for bad in (BadLoad(), itertools.count().__next__, (n for n in ())):
        items = [*range(300), bad, *range(300)]
        with pytest.raises(Exception) as raised:  # noqa: PT011  each kind has its own
            pool.map(type, items, chunksize=1)
        assert not isinstance(raised.value, AssertionError)
        answers, got, failed = pool.imap(type, items), 0, 0
        while True:
            try:
                got += next(answers) is int
            except StopIteration:
                break
            except Exception:
                failed += 1
        assert (got, failed) in ((600, 1), (600, 0)), (got, failed)


def test_a_slow_one_holds_nobody_up(pool: Any, tmp_path: Path) -> None:
    many_at_once(pool)
    path = str(tmp_path / "go")
    answers = pool.imap_unordered(waits_for, [(n, path) for n in range(2_000)])
    # Whatever lies behind the slow one in its bundle is done by the other worker.
    early = [next(answers) for _ in range(1_999)]
    Path(path).touch()
    assert sorted([*early, *answers]) == list(range(2_000))


@pytest.mark.timeout(60)
def test_what_ended_in_front_of_a_slow_one_comes(tmp_path: Path) -> None:
    path = str(tmp_path / "go")
    with mp.get_context("fork").Pool(1) as pool:
        many_at_once(pool)
        results = pool.imap(waits_for, [(n, path) for n in range(MANY)])
        assert [results.next(20) for _ in range(1_500)] == list(range(1_500))
        Path(path).touch()
        assert list(results) == list(range(1_500, MANY))


def test_an_input_that_waits_for_earlier_results(pool: Any) -> None:
    many_at_once(pool)
    back: queue.Queue[int] = queue.Queue()
    back.put(0)

    def items() -> Iterator[int]:
        for _ in range(1_000):
            yield back.get()

    for n in pool.imap(same, items()):
        back.put(n + 1)
    assert back.get() == 1_000


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_close_and_join_before_the_results_are_asked_for(kind: str) -> None:
    pool: Any = mp.get_context("fork").Pool(2) if kind == "processes" else ThreadPool(2)
    several = [
        pool.imap(same, range(MANY)),
        pool.imap(same, (n for n in range(MANY))),
        pool.imap(same, range(MANY), chunksize=7),
        pool.imap_unordered(same, iter([*range(MANY)])),
    ]
    pool.close()
    pool.join()
    for answers in several:
        assert sorted(answers) == list(range(MANY))


def test_iterators_that_are_dropped_do_not_keep_a_pool(pool: Any) -> None:
    for source in (range(MANY), (n for n in range(MANY))):
        answers = pool.imap(same, source)
        assert next(answers) == 0
        del answers
    pool.close()
    pool.join()
    assert not pool._crew.feeders


def test_the_input_is_looked_at_with_bounds(pool: Any) -> None:
    pulled = 0

    def items() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    answers = pool.imap(same, items())
    for n in range(1, 2_000):
        assert next(answers) == n
        assert pulled - n <= 2_000


@pytest.mark.timeout(60)
@pytest.mark.parametrize("verb", ["imap", "imap_unordered"])
@pytest.mark.parametrize("options", [{}, {"retries": 1}], ids=["together", "alone"])
def test_nothing_is_kept_of_what_was_handed_out(pool: Any, verb: str, options: dict[str, int]) -> None:
    results = getattr(pool.options(**options), verb)(same, itertools.count())
    for _ in range(5_000):
        next(results)
    kept = [value for value in vars(results).values() if hasattr(value, "__len__")]
    assert kept and all(len(value) < 1_000 for value in kept)


def test_how_many_go_together() -> None:
    pace = Pace()
    assert pace.many() == 1
    pace.learn(1, 1_000, 10)
    assert pace.many() > 30
    pace.learn(1, 10**9, 10)
    assert pace.many() == 1  # slow ones go alone
    pace.learn(1, 1_000, 10)
    assert pace.many() > 30
    for _ in range(20):
        pace.learn(1, 1_000, 1 << 20)
    assert pace.many() == 1  # large ones go alone
