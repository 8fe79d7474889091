"""Small tasks that travel together, and wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.programs import until

from phalanx import multiprocessing as mp
from phalanx.concurrent.futures import ProcessPoolExecutor

CTX = mp.get_context("fork")
MANY = 1500
pytestmark = pytest.mark.timeout(60)

box: Any = None
tickets: Any = None


@pytest.fixture
def fresh() -> Iterator[None]:
    global box, tickets
    box, tickets = CTX.SimpleQueue(), CTX.Semaphore(2)
    yield
    box = tickets = None


def both(i: int) -> int:
    """Each second task waits for the next one."""
    if i % 2:
        box.put(i)
        return i
    return int(box.get())


def one_of_two() -> None:
    tickets.acquire()


def refuse_a_third() -> None:
    if not tickets.acquire(False):
        raise ValueError("for two workers only")


VERBS: dict[str, Callable[[Any], list[int]]] = {
    "map": lambda pool: list(pool.map(both, range(MANY), chunksize=1)),
    "imap": lambda pool: list(pool.imap(both, range(120))),
    "apply_async": lambda pool: [one.get() for one in [pool.apply_async(both, (i,)) for i in range(MANY)]],
}


@pytest.mark.parametrize("verb", VERBS)
def test_tasks_of_a_pool_that_wait_for_the_next_one(verb: str, fresh: None) -> None:
    with CTX.Pool(2) as pool:
        done = VERBS[verb](pool)
        assert len(done) >= 100 and sorted(done[1::2]) == list(range(1, len(done), 2))
        until(lambda: len(pool._pool) == 2, "the third worker goes")
        until(lambda: pool._crew.bundles, "tasks may travel together again")
        assert pool.map(abs, range(-100, 0), chunksize=1) == list(range(100, 0, -1))


@pytest.mark.parametrize("verb", ["map", "submit"])
def test_calls_of_an_executor_that_wait_for_the_next_one(verb: str, fresh: None) -> None:
    with ProcessPoolExecutor(2, CTX) as executor:
        if verb == "map":
            done = list(executor.map(both, range(MANY)))
        else:
            done = [future.result() for future in [executor.submit(both, i) for i in range(MANY)]]
        assert sorted(done[1::2]) == list(range(1, MANY, 2))


@pytest.mark.parametrize("begin", [one_of_two, refuse_a_third])
def test_an_initializer_that_has_no_place_for_a_third_worker(begin: Any, fresh: None) -> None:
    # Nothing can end these tasks before the program does, but the two that were told to begin are not harmed.
    with CTX.Pool(2, begin) as pool:
        assert pool.map(abs, range(-100, 0), chunksize=1) == list(range(100, 0, -1))
        result = pool.map_async(wait_long, [0] * 300 + [1] * 200, chunksize=1)
        until(lambda: not pool._crew.bundles, "it is seen that nothing moves")
        until(lambda: pool._crew.spare == 0 or len(pool._pool) == 3, "a third worker is tried")
        for _ in range(200):
            box.put(0)
        assert result.get() == [0] * 500
        until(lambda: len(pool._pool) == 2 and pool._crew.spare == 0, "the third worker goes")
        assert pool.apply(abs, (-1,)) == 1
        pool.close()
        pool.join()


def wait_long(wait: int) -> int:
    return int(box.get()) if wait else 0
