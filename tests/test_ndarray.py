"""NumPy arrays in shared memory."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from tests.memory import used
from tests.test_processes import METHODS, run, script

__all__ = ["script"]

numpy: Any = None


@pytest.fixture
def ndarray() -> Any:
    global numpy
    numpy = pytest.importorskip("numpy")
    from phalanx.multiprocessing._ndarray import ndarray

    return ndarray


def test_ndarray(ndarray: Any) -> None:
    shared = ndarray((3, 4))
    assert shared.shape == (3, 4) and shared.dtype == float and not shared.any() and shared.flags.writeable
    shared[:] = numpy.arange(12).reshape(3, 4)
    again = pickle.loads(pickle.dumps(shared))
    again[1, 1] = 50
    assert shared[1, 1] == 50 and again.shape == (3, 4)
    assert ndarray(5, "u1").nbytes == 5 and ndarray(numpy.int64(5)).size == 5
    assert ndarray((2, 3), order="F").flags.f_contiguous
    fields = ndarray(3, [("a", "i4"), ("b", "f8", 2)])
    pickle.loads(pickle.dumps(fields["b"]))[2, 1] = 1.5
    assert fields[2]["b"][1] == 1.5


def test_views_of_an_ndarray_are_shared(ndarray: Any) -> None:
    shared = ndarray((4, 6), "i4")
    for view in (
        lambda it: it[1:3],
        lambda it: it[::-1, ::2],
        lambda it: it.T,
        lambda it: it[:, 3],
        lambda it: it.reshape(6, 4)[5:],
        lambda it: it.view("i2"),
        lambda it: it[2:][1:],
        lambda it: it[..., None],
    ):
        shared[:] = numpy.arange(24).reshape(4, 6)
        part = view(shared)
        data = pickle.dumps(part)
        again = pickle.loads(data)
        assert numpy.array_equal(again, part) and again.dtype == part.dtype
        again[...] = -1
        assert numpy.array_equal(view(shared), again) and (part == -1).all()
    assert pickle.loads(pickle.dumps(shared[2:2])).shape == (0, 6)
    assert pickle.loads(pickle.dumps(ndarray((0, 3)))).shape == (0, 3)
    assert pickle.loads(pickle.dumps(shared[1, 2, ...])).ndim == 0


def test_copies_of_an_ndarray_go_by_value(ndarray: Any) -> None:
    shared = ndarray(4, "i4")
    shared[:] = range(4)
    for own in (shared.copy(), shared[[0, 1]], numpy.asarray(shared), copy.deepcopy(shared), shared.astype("i8")):
        again = pickle.loads(pickle.dumps(own))
        again[0] = 99
        assert own[0] == 0 and type(again) is numpy.ndarray
    assert type(shared + 1) is numpy.ndarray
    assert type(shared.sum()) is numpy.int64 and type(shared.max()) is numpy.int32
    assert type(numpy.add(shared, 1, out=shared)) is type(shared)
    assert shared.tolist() == [1, 2, 3, 4]


def test_what_an_ndarray_cannot_be(ndarray: Any) -> None:
    for wrong in (object, [("a", "i4"), ("b", object)]):
        with pytest.raises(TypeError, match="cannot be shared"):
            ndarray(3, wrong)
    with pytest.raises(ValueError, match="negative"):
        ndarray(-1)
    with pytest.raises(ValueError, match="negative"):
        ndarray((2, -1))
    with pytest.raises(MemoryError):
        ndarray(2**50)


def test_the_memory_of_an_ndarray_comes_back(ndarray: Any) -> None:
    before = used()
    shared = ndarray(100_000)
    part = shared[10:20]
    del shared
    part[:] = 5
    assert part.sum() == 50 and used() > before
    del part
    assert used() == before


@pytest.mark.parametrize("method", METHODS)
def test_an_ndarray_in_children(script: Path, method: str) -> None:
    pytest.importorskip("numpy")
    body = """
    def fill(part, n): part[:] = n
    if __name__ == "__main__":
        from phalanx.multiprocessing._ndarray import ndarray
        context = multiprocessing.get_context(sys.argv[1])
        shared = ndarray((4, 1000), "i8")
        children = [context.Process(target=fill, args=(shared[n], n)) for n in range(4)]
        for child in children: child.start()
        for child in children: child.join()
        print(shared.sum(axis=1))
    """
    assert run(script, body, method) == (0, "[   0 1000 2000 3000]\n", "")
