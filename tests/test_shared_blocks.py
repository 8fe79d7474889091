"""Blocks of shared memory, and counters in it."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.memory import core, through_pickle, used
from tests.test_processes import script

from phalanx.multiprocessing import heap

__all__ = ["script"]


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize("size", [0, 1, 63, 64, 4096, 20_000, 1 << 20, (1 << 20) + 7])
def test_a_block_is_zeroed_aligned_and_writable(size: int) -> None:
    for _ in range(3):  # on memory that was used before as well
        block = core.SharedBlock(size)
        view = memoryview(block)
        assert len(block) == view.nbytes == size and not view.readonly
        assert block._address % 64 == 0
        assert view.tobytes() == bytes(size)
        view[:] = b"\xff" * size
        del view, block


def test_a_view_keeps_the_memory_and_the_last_one_frees_it() -> None:
    before = used()
    block = core.SharedBlock(100_000)
    view = memoryview(block)[10:20]
    del block
    view[:] = b"0123456789"
    assert used() > before
    assert view.tobytes() == b"0123456789"
    del view
    assert used() == before


def test_a_block_pickles_as_a_handle() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        block = core.SharedBlock(50_000)
        data = pickle.dumps(block, protocol)
        assert len(data) < 300
        again = pickle.loads(data)
        memoryview(block)[7] = 7
        assert memoryview(again)[7] == 7 and len(again) == 50_000
    third = copy.deepcopy(again)
    memoryview(third)[8] = 8
    assert memoryview(block)[8] == 8


def test_a_block_lives_while_its_pickle_travels() -> None:
    before = used()
    block = core.SharedBlock(100)
    memoryview(block)[:3] = b"abc"
    data = pickle.dumps(block)
    del block
    block = pickle.loads(data)
    assert memoryview(block)[:3].tobytes() == b"abc"
    del block
    assert used() == before
    with pytest.raises(RuntimeError, match=r"no longer exists.*\nhint: "):
        pickle.loads(data)


def test_numbers_that_stand_for_nothing() -> None:
    counter, block = core.AtomicCounter(), core.SharedBlock(1)
    low, high, offset = counter._pack()
    with pytest.raises(RuntimeError, match="this shared block no longer exists"):
        core.SharedBlock._unpack(low, high, offset)  # of another kind
    for other in (0, 1, offset + 8, 2**63):
        with pytest.raises(RuntimeError, match="no longer exists"):
            core.AtomicCounter._unpack(low, high, other)
    with pytest.raises(RuntimeError, match="belongs to another tree of processes"):
        core.SharedBlock._unpack(low, high + 1, block._pack()[2])
    assert core.AtomicCounter._unpack(low, high, offset).value == 0


def test_a_handle_does_not_reach_another_tree(tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(pickle.dumps(core.SharedBlock(1)))
    program = f"import pickle; pickle.load(open({str(tmp_path / 'pickle')!r}, 'rb'))"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, timeout=40)
    assert done.returncode == 1
    assert "RuntimeError: this shared block belongs to another tree of processes" in done.stderr


def test_sizes_that_cannot_be() -> None:
    for wrapper in (core.SharedBlock, heap.BufferWrapper):
        with pytest.raises(ValueError, match="Size -1 out of range"):
            wrapper(-1)
        with pytest.raises(OverflowError):
            wrapper(sys.maxsize)
        with pytest.raises(OverflowError):
            wrapper(2**70)
        with pytest.raises(MemoryError, match="no room for 4611686018427387904 bytes"):
            wrapper(2**62)
        with pytest.raises(TypeError):
            wrapper("1")
    with pytest.raises(TypeError):
        core.SharedBlock(1.5)


def test_buffer_wrapper() -> None:
    wrapper = heap.BufferWrapper(8)
    view = wrapper.create_memoryview()
    view.cast("i")[1] = 77
    assert wrapper.size == 8 and through_pickle(wrapper).create_memoryview().cast("i")[1] == 77
    assert len(heap.BufferWrapper(0).create_memoryview()) == 0


def test_blocks_freed_by_the_collector_in_the_middle_of_an_allocation() -> None:
    before = used()
    thresholds = gc.get_threshold()
    gc.set_threshold(10)
    try:
        for _ in range(2000):
            one: Any = heap.BufferWrapper(1)
            two: Any = heap.BufferWrapper(1)
            one.other, two.other = two, one
    finally:
        gc.set_threshold(*thresholds)
    del one, two
    assert used() == before


# ---------------------------------------------------------------- counters


def test_counter() -> None:
    counter = core.AtomicCounter(40)
    assert (counter.add(), counter.add(2), counter.add(n=-3)) == (41, 43, 40)
    counter.value = 7
    assert (counter.exchange(8), counter.value) == (7, 8)
    assert counter.compare_exchange(8, 9) is True
    assert counter.compare_exchange(expected=8, new=10) is False
    assert repr(counter) == "AtomicCounter(9)" and core.AtomicCounter().value == 0
    again = pickle.loads(pickle.dumps(counter))
    again.add()
    assert counter.value == 10


def test_a_counter_wraps_round() -> None:
    counter = core.AtomicCounter(2**63 - 1)
    assert counter.add() == -(2**63)
    assert counter.add(-1) == 2**63 - 1
    counter.value = -(2**63)
    assert counter.add(-(2**63)) == 0


def test_what_a_counter_refuses() -> None:
    counter = core.AtomicCounter(5)
    for wrong, error in ((2**63, OverflowError), (-(2**63) - 1, OverflowError), (1.0, TypeError), ("1", TypeError)):
        with pytest.raises(error):
            core.AtomicCounter(wrong)
        with pytest.raises(error):
            counter.add(wrong)
        with pytest.raises(error):
            counter.exchange(wrong)
        with pytest.raises(error):
            counter.compare_exchange(5, wrong)
        with pytest.raises(error):
            counter.value = wrong
    with pytest.raises(TypeError):
        counter.exchange()
    with pytest.raises(TypeError):
        counter.compare_exchange(1)
    with pytest.raises(AttributeError):
        del counter.value
    assert counter.value == 5
