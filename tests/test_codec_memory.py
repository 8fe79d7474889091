"""What the codec does with memory: buffers that are not copied, what is given back, and when."""

from __future__ import annotations

import array
import gc
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from tests.test_codec import (
    FAST,
    PICKLED,
    PICKLED_BUFFERS,
    PICKLES,
    TUPLE,
    as_bytes,
    decode,
    encode,
    encode_message,
    kind_of,
    roundtrip,
    same,
)

from phalanx.multiprocessing import _pickle

# ---------------------------------------------------------------- buffers


class Block(bytearray):
    """Stands for a payload block: counts as memory of the type that the decoder gets, and can be watched."""


def block_of(value: object) -> tuple[int, Block]:
    kind, record = encode(value)
    return kind, Block(record)


def inside(view: memoryview, owner: bytearray) -> int:
    """At which place of the owner a view begins, found by changing it."""
    before = view[0]
    view[0] ^= 0xFF
    place = next(at for at in range(0, len(owner), 64) if owner[at] == view[0] and owner[at] != before)
    view[0] = before
    return place


def test_buffers_are_views_of_the_block() -> None:
    source = [memoryview(bytearray(b"a" * 5000)), memoryview(bytes(b"b" * 70_000)), memoryview(bytearray(b"c" * 4096))]
    kind, owner = block_of(source)
    assert kind == PICKLED_BUFFERS
    copy = decode(kind, owner)
    assert copy == source
    assert [view.readonly for view in copy] == [False, True, False]
    assert inside(copy[0], owner) % 64 == 0
    copy[2][:3] = b"xyz"
    assert b"xyz" in owner
    # The block lives, and keeps its size, until the last view dies.
    last, watch = copy.pop(), weakref.ref(owner)
    del copy
    with pytest.raises(BufferError):
        owner.append(0)
    del owner
    assert watch() is not None
    assert last[:3] == b"xyz"
    del last
    gc.collect()
    assert watch() is None


def test_small_buffers_are_in_the_pickle() -> None:
    assert kind_of(memoryview(bytes(4095))) == PICKLED
    kind, record = encode(memoryview(bytearray(4096)))
    assert kind == PICKLED_BUFFERS
    # Small enough for the ring: copied there, and into an object of its own.
    assert type(record) is bytes
    copy = decode(kind, record)
    copy[0] = 5
    assert copy == b"\5" + bytes(4095)


@pytest.mark.parametrize("size", [10, 6000, 100_000])
@pytest.mark.parametrize("readonly", [False, True])
def test_memoryviews(size: int, readonly: bool) -> None:
    memory = bytes(range(256)) * (size // 256 + 1)
    whole = memoryview(memory if readonly else bytearray(memory))[: size // 8 * 8]
    views = [
        whole,
        whole[4:],
        whole[::2],
        whole[::-1],
        whole.cast("d"),
        whole.cast("i"),
        whole.cast("c"),
        whole.cast("B", (2, len(whole) // 2)),
        whole.cast("B", (2, len(whole) // 2)).cast("B").cast("H", (len(whole) // 4, 2)),
    ]
    for view in views:
        copy = roundtrip(view)
        assert type(copy) is memoryview
        assert (copy.tobytes(), copy.format, copy.shape, copy.readonly) == (
            view.tobytes(),
            view.format,
            view.shape,
            readonly,
        )


def test_odd_memoryviews() -> None:
    for view in (memoryview(b""), memoryview(b"").cast("i"), memoryview(b"1234").cast("i", ())):
        copy = roundtrip(view)
        assert (copy.tobytes(), copy.format, copy.shape) == (view.tobytes(), view.format, view.shape)
    released = memoryview(b"abc")
    released.release()
    with pytest.raises(ValueError, match="released"):
        encode(released)


def test_memoryviews_that_cannot_be_made_again() -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(TypeError, match="no items"):
        encode(memoryview(numpy.zeros((0, 3))))
    with pytest.raises(TypeError, match="format"):
        encode(memoryview(numpy.zeros(3, dtype=">i4")))


def test_array_of_numbers() -> None:
    for code in array.typecodes.replace("u", "").replace("w", ""):
        for count in (0, 5, 100_000):
            source = array.array(code, [1] * count)
            copy = roundtrip(source)
            assert same(copy, source) and copy.typecode == code
            copy.append(2)
    twice = array.array("d", [1.5]) * 10_000
    one, other = roundtrip([twice, twice])
    assert one is other


def test_large_bytes_inside_other_things_are_not_copied_into_the_pickle() -> None:
    source = [bytes(70_000), {"x": (bytearray(80_000),)}]
    stream, buffers = _pickle.dump(source)
    assert any(part is source[0] for part in stream)
    assert not buffers
    assert [type(part) for part in stream].count(pickle.PickleBuffer) == 1
    with pytest.raises(BufferError):
        source[1]["x"][0].append(1)  # type: ignore[index,call-overload]
    assert pickle.loads(b"".join(stream)) == source


class Lets:
    """Lets a buffer go while it is pickled."""

    def __init__(self, buffer: pickle.PickleBuffer) -> None:
        self.buffer = buffer

    def __reduce__(self) -> Any:
        self.buffer.release()
        return int, ()


def test_a_buffer_released_by_its_maker() -> None:
    buffer = pickle.PickleBuffer(bytearray(b"x" * 10_000))
    assert bytes(roundtrip([buffer, Lets(buffer)])[0]) == b"x" * 10_000
    with pytest.raises(ValueError, match="released"):
        encode(buffer)


def test_sources_can_be_resized_afterwards() -> None:
    plain, inner, viewed = bytearray(100_000), bytearray(100_000), bytearray(100_000)
    for value in (plain, [inner], memoryview(viewed)):
        encode(value)
    for memory in (plain, inner):
        memory.append(1)
    with pytest.raises(TypeError):
        encode([plain, threading.Lock()])
    plain.append(1)


def test_numpy_arrays_are_views_of_the_block() -> None:
    numpy = pytest.importorskip("numpy")
    source = numpy.arange(100_000, dtype="f8").reshape(100, 1000)
    kind, owner = block_of({"a": source})
    assert kind == PICKLED_BUFFERS
    assert len(owner) < source.nbytes + 500
    copy = decode(kind, owner)["a"]
    assert numpy.array_equal(copy, source) and copy.dtype == source.dtype
    assert copy.flags.writeable and copy.flags.aligned
    start = numpy.frombuffer(owner, dtype="u1").ctypes.data
    assert start <= copy.ctypes.data < start + len(owner)
    assert (copy.ctypes.data - start) % 64 == 0
    copy[3, 5] = -1
    assert decode(kind, owner)["a"][3, 5] == -1
    assert source[3, 5] == 3005
    watch = weakref.ref(owner)
    row = copy[50:].T
    del owner, copy
    assert watch() is not None
    assert row.sum() == source[50:].sum()
    del row
    gc.collect()
    assert watch() is None


def test_numpy_arrays_of_all_sorts() -> None:
    numpy = pytest.importorskip("numpy")
    base = numpy.arange(24_000, dtype="i4").reshape(20, 30, 40)
    frozen = base.copy()
    frozen.setflags(write=False)
    arrays = [
        base,
        numpy.asfortranarray(base),
        base[::2, ::-1],
        base.T,
        base[:0],
        frozen,
        base[0, 0, :5],
        base.astype(">u2"),
        base.astype("c16"),
        base > 5,
        numpy.array(["a", "bc"] * 3000),
        numpy.array([1, "x", None] * 3000, dtype=object),
        numpy.zeros(1000, dtype=[("a", "i4"), ("b", "f8", 3)]),
        numpy.arange(6000).astype("M8[s]"),
        numpy.float64(1.5),
    ]
    for source in arrays:
        copy = roundtrip(source)
        assert type(copy) is type(source) and copy.dtype == source.dtype and copy.shape == source.shape
        assert (copy == source).all()
    assert not roundtrip(frozen).flags.writeable
    assert roundtrip(numpy.asfortranarray(base)).flags.f_contiguous
    together = roundtrip(arrays)
    assert all((one == other).all() for one, other in zip(together, arrays, strict=True))


# ---------------------------------------------------------------- references


class Watched(list[Any]):
    pass


def test_references_are_balanced() -> None:
    part = Watched([1, 2])
    text, octets, large = "é" * 3000, b"x" * 5000, bytearray(100_000)
    values: list[Any] = [
        (text, octets, 1.5, 10**9, (text,)),
        text * 5,
        octets * 5,
        large,
        [text, octets],
        {"k": text},
        part,
        [part, large, octets * 20],
        [memoryview(large), array.array("d", [1.0]) * 5000],
        10**30,
    ]
    hold = [text, octets, large, part, *values]
    for value in values:
        roundtrip(value)
        as_bytes(*encode(value))
    with pytest.raises(TypeError):
        roundtrip([text, octets, large, part, threading.Lock()])
    gc.collect()
    before = [sys.getrefcount(thing) for thing in hold]
    for value in values:
        for _ in range(100):
            roundtrip(value)
            as_bytes(*encode(value))
    for _ in range(100):
        with pytest.raises(TypeError):
            roundtrip([text, octets, large, part, threading.Lock()])
    gc.collect()
    assert [sys.getrefcount(thing) for thing in hold] == before


def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def leaks(work: Callable[[], object]) -> bool:
    for _ in range(50):
        work()
    before = blocks()
    for _ in range(500):
        work()
    return blocks() - before > 250


OFTEN = [value for value in [*(value for value, _ in FAST), *PICKLES] if len(repr(value)) < 100_000][::3]


@pytest.mark.parametrize("value", OFTEN, ids=range(len(OFTEN)))
def test_memory_comes_back(value: object) -> None:
    assert not leaks(lambda: roundtrip(value))


def test_memory_comes_back_from_buffers_and_failures() -> None:
    view = memoryview(bytearray(5000))
    lock = threading.Lock()
    kind, record = encode([view, view])
    damaged = bytearray(record[:-1])
    short = encode(("a" * 100, (1, 2.5, b"b" * 50)))[1][:-1]

    def fails(call: Callable[..., object], *args: object) -> None:
        try:
            call(*args)
        except (TypeError, pickle.UnpicklingError):
            return
        raise AssertionError

    assert not leaks(lambda: roundtrip([view, array.array("d", [1.0]) * 2000]))
    assert not leaks(lambda: fails(encode, [view, lock]))
    assert not leaks(lambda: fails(decode, kind, damaged))
    assert not leaks(lambda: fails(decode, TUPLE, short))
    assert not leaks(lambda: fails(encode_message, "x"))
