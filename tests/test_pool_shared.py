"""`options(shared=...)`: an object goes once to each worker."""

from __future__ import annotations

import os
import signal

import pytest

from phalanx.concurrent.futures import ProcessPoolExecutor
from phalanx.multiprocessing import get_context
from phalanx.multiprocessing.pool import ThreadPool

LOADS = 0
PICKLES = 0


class Counted:
    """Knows how often it was pickled and loaded in this process."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __getstate__(self) -> int:
        global PICKLES
        PICKLES += 1
        return self.value

    def __setstate__(self, value: int) -> None:
        global LOADS
        LOADS += 1
        self.value = value


def look(counted: Counted, item: int) -> tuple[int, int, int]:
    return counted.value + item, os.getpid(), LOADS


def die_once(counted: Counted, item: int) -> tuple[int, int, int]:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return look(counted, item)


def add(counted: Counted, a: int, b: int = 0) -> int:
    return counted.value + a + b


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_once_pickled_and_once_loaded_by_each_worker(method: str) -> None:
    before = PICKLES
    with get_context(method).Pool(2) as pool:
        view = pool.options(shared=Counted(100))
        rows = view.map(look, range(40), chunksize=1) + list(view.imap(look, range(40, 60)))
    assert [row[0] for row in rows] == list(range(100, 160))
    assert {row[2] for row in rows} == {1}
    assert before + 1 == PICKLES


def test_a_new_worker_gets_it_too() -> None:
    before = PICKLES
    with get_context("fork").Pool(1) as pool:
        view = pool.options(shared=Counted(7))
        first = view.apply(look, (1,))
        with pytest.raises(Exception, match="SIGKILL"):
            view.apply(die_once, (3,))
        second = view.apply(look, (1,))
    assert (first[0], first[2]) == (second[0], second[2]) == (8, 1)
    assert first[1] != second[1]
    assert before + 1 == PICKLES


def test_two_objects_and_none_in_one_pool() -> None:
    with get_context("fork").Pool(2) as pool:
        one, ten = pool.options(shared=Counted(1)), pool.options(shared=Counted(10))
        assert one.starmap(add, [(1, 1), (2, 2)]) == [3, 5]
        assert ten.apply(add, (1,), {"b": 5}) == 16
        assert pool.map(abs, [-1, -2]) == [1, 2]


def test_what_pickle_refuses_goes_by_value() -> None:
    with get_context("fork").Pool(1) as pool:
        view = pool.options(shared=lambda x: x * 3)
        assert view.map(lambda f, x: f(x), range(4)) == [0, 3, 6, 9]


def test_what_cannot_go_says_so_at_once() -> None:
    with get_context("fork").Pool(1) as pool:
        with pytest.raises(TypeError, match="generator"):
            pool.options(shared=(i for i in range(3)))
        assert pool.apply(abs, (-4,)) == 4


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_executor(method: str) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as executor:
        view = executor.options(shared=Counted(5), retries=1)
        assert view.submit(add, 1, b=2).result() == 8
        rows = list(view.map(look, range(30), chunksize=3))
    assert [row[0] for row in rows] == list(range(5, 35))
    assert {row[2] for row in rows} == {1}
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.options(shared=Counted(5))


def test_threads_have_the_object_itself() -> None:
    shared: list[int] = []
    with ThreadPool(2) as pool:
        pool.options(shared=shared).map(list.append, range(10))
    assert sorted(shared) == list(range(10))


def test_the_message_of_a_death_names_the_function() -> None:
    with get_context("fork").Pool(1) as pool, pytest.raises(Exception, match="died with die_once"):
        pool.options(shared=Counted(5)).map(die_once, [3])
