"""Shared state: blocks, counters, ctypes objects with and without a lock, arrays, named segments."""

from __future__ import annotations

import copy
import ctypes
import gc
import multiprocessing.shared_memory as standard_shared_memory
import multiprocessing.sharedctypes as standard_sharedctypes
import os
import pickle
import random
import string
import struct
import subprocess
import sys
import textwrap
import threading
import weakref
from array import array
from collections.abc import Iterator
from multiprocessing import context as standard_context
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
from tests.test_processes import METHODS, run, script

from phalanx import _core
from phalanx.multiprocessing import get_context, heap, shared_memory, sharedctypes
from phalanx.multiprocessing.sharedctypes import Array, RawArray, RawValue, Value

__all__ = ["script"]

core: Any = _core


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Line(ctypes.Structure):
    _fields_ = [("start", Point), ("end", Point), ("tags", ctypes.c_short * 4)]


class Loud(ctypes.c_int):
    @property
    def value(self) -> str:  # type: ignore[override]
        return "loud"


class Recorder:
    """A lock that is not ours, and writes down what is done with it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail = ""

    def _note(self, name: str) -> bool:
        self.calls.append(name)
        if self.fail == name:
            raise LookupError(name)
        return True

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        return self._note("acquire")

    def release(self) -> None:
        self._note("release")

    def __enter__(self) -> str:
        self._note("enter")
        return "entered"

    def __exit__(self, *exc_info: object) -> bool:
        self._note(f"exit {len(exc_info)}")
        return True


def through_pickle(obj: Any) -> Any:
    return pickle.loads(ForkingPickler.dumps(obj))


def used() -> int:
    gc.collect()
    bytes_in_use, _ = core.shared_usage()
    return int(bytes_in_use)


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


# ---------------------------------------------------------------- ctypes objects without a lock


@pytest.mark.parametrize("code", sorted(sharedctypes.typecode_to_type))
def test_raw_values_of_every_code(code: str) -> None:
    type_ = sharedctypes.typecode_to_type[code]
    assert type_ is standard_sharedctypes.typecode_to_type[code]
    value: Any = {"c": b"x", "u": "ä", "d": 1.5, "f": 2.5}.get(code, 7)
    for raw in (RawValue(code, value), RawValue(type_, value)):
        assert type(raw) is type_ and raw.value == value
        assert through_pickle(raw).value == value
    assert not RawValue(code).value or RawValue(code).value in (b"\0", "\0")


def test_raw_objects_have_no_lock() -> None:
    for raw in (RawValue("i", 5), RawArray("i", 5), Value("i", 5, lock=False), Array("i", range(5), lock=False)):
        assert not hasattr(raw, "get_lock") and not hasattr(raw, "get_obj")


def test_raw_arrays() -> None:
    for initial in ([1, 2, 3], (1, 2, 3), array("i", [1, 2, 3]), range(1, 4)):
        raw = RawArray("i", initial)
        assert list(raw) == [1, 2, 3]
        again = through_pickle(raw)
        again[1] = 20
        assert raw[:] == [1, 20, 3] and len(again) == 3
    for _ in range(3):
        raw = RawArray(Point, 100)
        assert bytes(raw) == bytes(ctypes.sizeof(raw))
        ctypes.memset(raw, 0xFF, ctypes.sizeof(raw))
        del raw
    assert len(through_pickle(RawArray("i", 0))) == 0
    with pytest.raises(ValueError, match="Array length must be >= 0"):
        RawArray("i", -1)
    with pytest.raises(TypeError):
        RawValue("no such code")


def test_structures_and_arrays_of_arrays() -> None:
    line = RawValue(Line, (1, 2), (3, 4))
    again = through_pickle(line)
    again.end.x, again.tags[2] = 30, 5
    assert (line.start.y, line.end.x, line.tags[2]) == (2.0, 30, 5)
    table = RawArray(ctypes.c_int * 3, 2)
    again = through_pickle(table)
    assert type(again) is ctypes.c_int * 3 * 2
    again[1][2] = 9
    assert [list(row) for row in table] == [[0, 0, 0], [0, 0, 9]]


def test_a_part_of_a_shared_object_is_shared_too() -> None:
    points = RawArray(Point, [(1, 1), (2, 2)])
    RawValue(Point)  # so that points are pickled our way
    part = through_pickle(points[1])
    part.x = 20
    assert points[1].x == 20
    again = through_pickle(part)
    del part
    again.x = 21
    assert points[1].x == 21


def test_what_is_not_in_shared_memory_goes_by_value() -> None:
    RawValue(Point)
    plain = Point(1, 2)
    again = through_pickle(plain)
    again.x = 10
    assert (again.y, plain.x) == (2, 1)


def test_a_copy_is_independent_and_shared() -> None:
    plain = Point(1, 2)
    shared = sharedctypes.copy(plain)
    plain.x = 10
    through_pickle(shared).y = 20
    assert (shared.x, shared.y) == (1, 20)


def test_standard_objects_of_the_same_types_still_pickle() -> None:
    """There is one registry of reducers, and who registers a type last has it: then the standard rules hold."""
    theirs, ours = standard_sharedctypes.RawValue("i", 5), RawValue("i", 6)
    rebuild, arguments = sharedctypes.reduce_ctype(theirs)
    rebuild(*arguments).value = 50
    assert theirs.value == 50
    standard_sharedctypes.RawValue("i", 7)
    standard_context.set_spawning_popen(object())  # type: ignore[arg-type]
    try:
        through_pickle(ours).value = 60
    finally:
        standard_context.set_spawning_popen(None)  # type: ignore[arg-type]
    assert ours.value == 60
    RawValue("i", 7)
    assert through_pickle(ours).value == 60


def test_the_memory_of_ctypes_objects_comes_back() -> None:
    before = used()
    raw, value, values = RawValue(Line), Value("i", 3, lock=threading.RLock()), RawArray("d", 10_000)
    handles = [through_pickle(it) for it in (raw, values)]
    assert used() > before
    del raw, value, values, handles
    assert used() == before


# ---------------------------------------------------------------- with a lock


@pytest.fixture(params=["ours", "threading", "Lock"])
def lock(request: pytest.FixtureRequest) -> Any:
    """Locks that are taken without a call, and through their methods."""
    make = {"ours": core.SharedRLock, "threading": threading.RLock, "Lock": core.SharedLock}
    return make[request.param]()


def test_value(lock: Any) -> None:
    value = Value("i", 5, lock=lock)
    assert value.get_lock() is value._lock is lock
    assert value.get_obj() is value._obj and type(value.get_obj()) is ctypes.c_int
    value.value += 2
    assert value.value == value.get_obj().value == 7
    assert type(value) is sharedctypes.Synchronized and isinstance(value, sharedctypes.SynchronizedBase)
    assert repr(value) == "<Synchronized wrapper for c_int(7)>"
    assert value.acquire() is True
    value.release()
    with value as taken:
        assert taken is True


def test_every_use_is_under_the_lock() -> None:
    recorder = Recorder()
    value, values = Value("i", 1, lock=recorder), Array("i", [1, 2, 3], lock=recorder)
    point, text = Value(Point, 1, 2, lock=recorder), Array("c", b"abc", lock=recorder)

    def calls() -> list[str]:
        seen, recorder.calls = recorder.calls, []
        return seen

    both = ["acquire", "release"]
    for use in (
        lambda: value.value,
        lambda: values[0],
        lambda: values[1:],
        lambda: point.x,
        lambda: text.value,
        lambda: text.raw,
        lambda: setattr(value, "value", 3),
        lambda: setattr(point, "y", 3),
        lambda: setattr(text, "value", b"x"),
        lambda: values.__setitem__(0, 3),
        lambda: values.__setitem__(slice(0, 2), [5, 6]),
    ):
        use()
        assert calls() == both
    assert list(values) == [5, 6, 3] and calls() == both * 4
    assert len(values) == 3 and calls() == []
    with value as taken:
        assert taken == "entered"
    assert calls() == ["enter", "exit 3"]
    value.acquire(True, timeout=1)
    value.release()
    assert calls() == both


def test_the_lock_is_given_back_after_an_error(lock: Any) -> None:
    value, values = Value("i", 1, lock=lock), Array("i", 3, lock=lock)
    point = Value(Point, lock=lock)
    with pytest.raises(TypeError):
        value.value = "x"
    with pytest.raises(IndexError):
        values[3]
    with pytest.raises(IndexError):
        values[3] = 1
    with pytest.raises(TypeError):
        point.x = "x"
    for name in ("value", "get_obj"):
        with pytest.raises(AttributeError):
            delattr(value, name)
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(lock.acquire(False)))
    thread.start()
    thread.join()
    assert taken == [True]


def test_a_lock_that_fails() -> None:
    recorder = Recorder()
    value = Value("i", 1, lock=recorder)
    recorder.fail = "acquire"
    with pytest.raises(LookupError, match="acquire"):
        value.value = 2
    assert recorder.calls == ["acquire"] and value.get_obj().value == 1
    recorder.fail = "release"
    with pytest.raises(LookupError, match="release") as caught:
        value.value = "x"
    assert isinstance(caught.value.__context__, TypeError)
    with pytest.raises(LookupError, match="release"):
        value.value = 3
    assert value.get_obj().value == 3


NUMBERS: list[Any] = [0, 1, -1, 127, -128, 255, 32767, 65535, -32768, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1]
NUMBERS += [-(2**63), 2**63, 2**64 - 1, 2**64, 2**100, True, 1.5, -0.0, 1e300, float("inf"), "x", None, b"x"]


@pytest.mark.parametrize("code", "bBhHiIlLqQfd")
def test_numbers_are_converted_and_refused_as_ctypes_does(code: str, lock: Any) -> None:
    plain = sharedctypes.typecode_to_type[code]()
    value = Value(code, lock=lock)
    for number in NUMBERS:
        expected, raised = None, None
        try:
            plain.value = number
        except Exception as error:
            expected = type(error)
        try:
            value.value = number
        except Exception as error:
            raised = type(error)
        assert raised is expected, number
        assert repr(value.value) == repr(plain.value) == repr(value.get_obj().value), number


def test_a_number_that_is_not_aligned_or_not_plain(lock: Any) -> None:
    class Packed(ctypes.Structure):
        _pack_ = 1
        _fields_ = [("a", ctypes.c_byte), ("b", ctypes.c_int)]

    packed = RawValue(Packed)
    whole = packed._wrapper
    odd = sharedctypes.synchronized(sharedctypes.rebuild_ctype(ctypes.c_int, whole, None, 1), lock)
    assert sharedctypes._number_in(odd.get_obj()) == (0, 0)
    odd.value = 77
    assert (packed.b, odd.value) == (77, 77)
    assert sharedctypes.synchronized(RawValue(Loud, 3), lock).value == "loud"
    plain = ctypes.c_int(3)
    outside = sharedctypes.synchronized(plain, lock)
    outside.value = 4
    assert plain.value == 4
    big = sharedctypes.synchronized(RawValue(ctypes.c_int.__ctype_be__, 3), lock)
    big.value += 1
    assert (big.value, bytes(big.get_obj())) == (4, b"\0\0\0\4")


def test_arrays_strings_and_structures(lock: Any) -> None:
    values = Array("i", [680, 626, 934, 821], lock=lock)
    assert (len(values), values[3], values[1:3], values[-1]) == (4, 821, [626, 934], 821)
    values[1:3] = array("i", [1, 2])
    assert list(values) == [680, 1, 2, 821] and 680 in values
    text = Array("c", 20, lock=lock)
    text.value = b"hello"
    assert (text.value, text.raw, len(text), text[1]) == (b"hello", b"hello".ljust(20, b"\0"), 20, b"e")
    assert type(text) is sharedctypes.SynchronizedString and type(values) is sharedctypes.SynchronizedArray
    line = Value(Line, (1, 2), (3, 4), lock=lock)
    assert type(line).__name__ == "SynchronizedLine" and line.start.y == 2
    line.end = Point(5, 6)
    assert line.get_obj().end.x == 5
    assert type(Value(Line, lock=lock)) is type(line)
    with pytest.raises(AssertionError, match="object already synchronized"):
        sharedctypes.synchronized(line)


def test_locks_that_are_given_or_made() -> None:
    for default in (Value("i"), Value("i", lock=None), Array("i", 1), Array("i", 1, lock=None)):
        assert type(default.get_lock()) is core.SharedRLock
    fork = get_context("fork")
    assert type(fork.Value("d", 1.5).get_lock()) is core.SharedRLock
    assert type(sharedctypes.synchronized(RawValue("i"), ctx=fork).get_lock()) is core.SharedRLock
    for wrong in ("navalue", 5, object()):
        for make in (Value, Array):
            with pytest.raises(AttributeError, match="has no method 'acquire'"):
                make("i", 5, lock=wrong)


def test_a_wrapper_without_its_init() -> None:
    bare = sharedctypes.SynchronizedArray.__new__(sharedctypes.SynchronizedArray)
    for use in (
        lambda: bare[0],
        lambda: len(bare),
        bare.get_obj,
        bare.get_lock,
        bare.acquire,
        bare.release,
        bare.__enter__,
    ):
        with pytest.raises(AttributeError, match="is not set"):
            use()
    value = Value("i", 3, lock=threading.RLock())
    with pytest.raises(RuntimeError, match="has its lock already"):
        value.__init__(RawValue("i"), threading.RLock())
    assert value.value == 3


def test_subclasses_of_our_lock_are_used_as_they_are() -> None:
    class Counting(core.SharedRLock):  # type: ignore[misc]
        count = 0

        def acquire(self, *args: Any) -> Any:
            self.count += 1
            return super().acquire(*args)

    lock = Counting()
    value = Value("i", 1, lock=lock)
    value.value += 1
    assert (lock.count, value.value) == (2, 2)


def test_wrappers_in_cycles_are_collected() -> None:
    value = Value("i", 1, lock=Recorder())
    value.get_lock().value = value
    gone = weakref.ref(value)
    del value
    gc.collect()
    assert gone() is None


def test_a_lock_that_raises_deadlock_leaves_no_lock_behind(script: Path) -> None:
    program = """
    import phalanx
    from phalanx import _core
    from phalanx.multiprocessing.sharedctypes import Value
    value = Value("i", 1, lock=_core.SharedLock())
    try:
        with value.get_lock():
            value.value += 1
    except phalanx.DeadlockError:
        print("told")
    value.value += 1
    print(value.value)
    """
    assert run(script, program) == (0, "told\n2\n", "")


# ---------------------------------------------------------------- between processes

EVERYTHING = """
import ctypes, struct
from phalanx._core import AtomicCounter, SharedBlock
class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]
def change(objects):
    value, raw, values, point, text, counter, wrapper = objects
    value.value += 1; raw.value += 1; values[1:] = [8, 9]; point.x *= 3; text.value = b"child"; counter.add(5)
    wrapper.create_memoryview()[:4] = b"deed"
def show(objects):
    value, raw, values, point, text, counter, wrapper = objects
    print(value.value, raw.value, values[:], point.x, point.y, text.value, counter.value,
          wrapper.create_memoryview()[:4].tobytes(), flush=True)
def make(context):
    from phalanx.multiprocessing.heap import BufferWrapper
    return [context.Value("i", 1), context.RawValue("d", 1.5), context.Array("h", 3), context.Value(Point, 2, 7),
            context.Array("c", 10), AtomicCounter(1), BufferWrapper(10)]
CHANGED = "2 2.5 [0, 8, 9] 6 7.0 b'child' 6 b'deed'"
"""


@pytest.mark.parametrize("method", METHODS)
def test_children_see_and_change_everything(script: Path, method: str) -> None:
    body = """
    def grandparent(objects, method):
        change(objects)
        grandchild = multiprocessing.get_context(method).Process(target=show, args=(objects,))
        grandchild.start(); grandchild.join()
    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        objects = make(context)
        child = context.Process(target=grandparent, args=(objects, sys.argv[1]))
        child.start(); child.join()
        show(objects)
    """
    changed = "2 2.5 [0, 8, 9] 6 7.0 b'child' 6 b'deed'\n"
    assert run(script, EVERYTHING + textwrap.dedent(body), method) == (0, changed * 2, "")


@pytest.mark.parametrize("method", METHODS)
def test_everything_goes_through_a_queue_and_outlives_its_maker(script: Path, method: str) -> None:
    body = """
    def maker(queue):
        objects = make(multiprocessing)
        change(objects)
        queue.put(objects)
    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        queue = context.Queue()
        child = context.Process(target=maker, args=(queue,))
        child.start(); child.join()
        show(queue.get())
    """
    assert run(script, EVERYTHING + textwrap.dedent(body), method) == (
        0,
        "2 2.5 [0, 8, 9] 6 7.0 b'child' 6 b'deed'\n",
        "",
    )


@pytest.mark.parametrize("method", METHODS)
def test_no_increment_is_lost(script: Path, method: str) -> None:
    body = """
    def work(value, values, counter, start):
        start.wait()
        for _ in range(500):
            with value.get_lock(): value.value += 1
            with values: values[1] += 1
            counter.add()
            while not counter.compare_exchange(before := counter.value, before + 1): pass
    if __name__ == "__main__":
        from phalanx._core import AtomicCounter
        context = multiprocessing.get_context(sys.argv[1])
        shared = context.Value("i", 0), context.Array("q", 2), AtomicCounter(), context.Barrier(4)
        children = [context.Process(target=work, args=shared) for _ in range(4)]
        for child in children: child.start()
        for child in children: child.join()
        print(shared[0].value, shared[1][:], shared[2].value)
    """
    assert run(script, body, method) == (0, "2000 [0, 2000] 4000\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_the_memory_of_the_dead_comes_back(script: Path, method: str) -> None:
    body = """
    from phalanx import _core
    def hold(big, ready):
        mine = multiprocessing.RawArray("d", 100_000)
        views = [memoryview(mine), memoryview(big)]
        ready.set()
        signal.pause()
    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        before = _core.shared_usage()[0]
        big, ready = context.RawArray("d", 100_000), context.Event()
        child = context.Process(target=hold, args=(big, ready))
        child.start(); ready.wait(); child.kill(); child.join()
        del big, ready, child
        import gc; gc.collect()
        _core.patrol()
        left = _core.shared_usage()[0] - before
        print("back" if left < 10_000 else left)
    """
    assert run(script, body, method) == (0, "back\n", "")


def test_a_forked_child_gives_up_only_its_own_handles(script: Path) -> None:
    body = """
    values = [multiprocessing.RawValue("i", 5)]
    pid = os.fork()
    if pid == 0:
        values.clear()
        import gc; gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    others = [multiprocessing.RawValue("i", 6) for _ in range(100)]
    print(values[0].value)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)  # until the parent has let go
        print(values[0].value, flush=True)
        os._exit(0)
    values.clear()
    others += [multiprocessing.RawValue("i", 7) for _ in range(100)]
    os.write(writer, b"x")
    os.waitpid(pid, 0)
    """
    assert run(script, body) == (0, "5\n5\n", "")


# ---------------------------------------------------------------- arrays

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


# ---------------------------------------------------------------- named segments


def exists(name: str) -> bool:
    return os.path.exists(f"/dev/shm/{name}")


@pytest.fixture
def name() -> Iterator[str]:
    name = "phx" + "".join(random.choices(string.ascii_lowercase, k=8))
    yield name
    if exists(name):
        os.unlink(f"/dev/shm/{name}")


def test_shared_memory(name: str) -> None:
    segment = shared_memory.SharedMemory(name, create=True, size=100)
    try:
        assert segment.name == name and segment.size == 100 and len(segment.buf) == 100
        assert repr(segment) == f"SharedMemory({name!r}, size=100)"
        assert isinstance(segment, standard_shared_memory.SharedMemory)
        again = shared_memory.SharedMemory(name, size=10_000)
        again.buf[5] = 5
        assert (segment.buf[5], again.size) == (5, 100)
        third = pickle.loads(pickle.dumps(segment))
        assert third.buf[5] == 5
        with pytest.raises(FileExistsError):
            shared_memory.SharedMemory(name, create=True, size=1)
        for it in (again, third):
            it.close()
        assert exists(name)
    finally:
        segment.close()
        segment.unlink()
    assert not exists(name)
    with pytest.raises(FileNotFoundError):
        segment.unlink()
    with pytest.raises(FileNotFoundError):
        shared_memory.SharedMemory(name)


def test_what_a_segment_cannot_be(name: str) -> None:
    for arguments in ({"create": True, "size": -2}, {"create": True}, {"name": None}, {"name": name, "size": -1}):
        with pytest.raises(ValueError, match=r"'size' must be|'name' can only"):
            shared_memory.SharedMemory(**arguments)
    with pytest.raises(ValueError, match="null"):
        shared_memory.SharedMemory(name + "\0a", create=True, size=1)
    assert not exists(name)
    segment = shared_memory.SharedMemory(name, create=True, size=1)
    segment._name += "\0a"
    with pytest.raises(ValueError, match="null"):
        segment.unlink()
    segment.close()
    segment._name = f"/{name}"
    segment.unlink()


def test_generated_names_go_on_after_a_collision(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    names = iter([f"/{name}", f"/{name}", f"/{name}2"])
    monkeypatch.setattr(standard_shared_memory, "_make_filename", lambda: next(names))
    segments = [shared_memory.SharedMemory(create=True, size=1) for _ in range(2)]
    for segment in segments:
        segment.close()
        segment.unlink()
    assert [segment.name for segment in segments] == [name, f"{name}2"]


def test_flags_of_a_subclass_are_honoured(name: str) -> None:
    class AttachOrMake(shared_memory.SharedMemory):
        _flags = os.O_CREAT | os.O_RDWR

    segment = shared_memory.SharedMemory(name, create=True, size=10)
    other = AttachOrMake(name)
    assert other.size == 10
    other.close()
    segment.close()
    segment.unlink()


def test_failing_to_attach_destroys_nothing(name: str) -> None:
    Path(f"/dev/shm/{name}").touch()
    with pytest.raises(ValueError, match="empty"):
        shared_memory.SharedMemory(name)
    assert exists(name)


def test_failing_to_make_leaves_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shared_memory, "_track", fail)
    with pytest.raises(KeyboardInterrupt):
        shared_memory.SharedMemory(name, create=True, size=10)
    assert not exists(name)


def test_a_view_in_use_when_the_segment_goes_is_no_error(name: str) -> None:
    segment = shared_memory.SharedMemory(name, create=True, size=10)
    view, descriptor = segment.buf[2:4], segment._fd
    segment.unlink()
    with pytest.raises(BufferError):
        segment.close()
    del segment  # an exception in __del__ would be an error here
    view[0] = 7
    assert view[0] == 7
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


MAKE = "from phalanx.multiprocessing.shared_memory import SharedMemory, ShareableList\n"
WATCH = """
ATTACH = "import sys; from phalanx.multiprocessing.shared_memory import ShareableList, SharedMemory; "
def alone(program, *arguments):
    # In a program of its own, with a tracker of its own.
    import subprocess
    return subprocess.run([sys.executable, "-c", program, *arguments], text=True, capture_output=True, timeout=30)
"""


def test_an_attacher_that_ends_destroys_nothing(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10)
    segment.buf[0] = 42
    attach = ATTACH + "a = SharedMemory(sys.argv[1]); print(a.buf[0])"
    listed = ShareableList([1, "two"])
    attach_list = ATTACH + "print(ShareableList(name=sys.argv[1])[1])"
    for done in (alone(attach, segment.name), alone(attach, segment.name), alone(attach_list, listed.shm.name)):
        print(done.stdout, done.stderr, end="")
    for it in (segment, listed.shm):
        it.close(); it.unlink()
    """
    assert run(script, MAKE + WATCH + textwrap.dedent(body), name) == (0, "42\n 42\n two\n ", "")
    assert not exists(name)


@pytest.mark.parametrize("method", METHODS)
def test_whoever_unlinks_the_tracker_has_nothing_to_say(script: Path, name: str, method: str) -> None:
    body = """
    def finish(segment):
        segment.buf[1] = 2
        segment.close()
        segment.unlink()
    if __name__ == "__main__":
        segment = SharedMemory(sys.argv[1], create=True, size=10)
        child = multiprocessing.get_context(sys.argv[2]).Process(target=finish, args=(segment,))
        child.start(); child.join()
        print(segment.buf[1]); segment.close()
    """
    assert run(script, MAKE + textwrap.dedent(body), name, method) == (0, "2\n", "")
    assert not exists(name)


def test_another_program_unlinks(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10, track=False)
    done = alone(ATTACH + "SharedMemory(sys.argv[1]).unlink()", segment.name)
    print(done.stdout, done.stderr)
    """
    assert run(script, MAKE + WATCH + textwrap.dedent(body), name) == (0, " \n", "")
    assert not exists(name)


def test_what_is_not_tracked_stays(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10, track=False)
    """
    assert run(script, MAKE + textwrap.dedent(body), name) == (0, "", "")
    assert exists(name)
    # And who asks for it does track what it attaches to.
    outcome = run(script, MAKE + "SharedMemory(sys.argv[1], track=True).close()", name)
    assert "There appear to be 1 leaked shared_memory objects" in outcome.err
    assert not exists(name)


def test_the_segment_of_a_killed_program_is_unlinked(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    outcome = run(script, MAKE + textwrap.dedent(body), name)
    assert outcome.code == -9
    assert "resource_tracker: There appear to be 1 leaked shared_memory objects to clean up at shutdown" in outcome.err
    assert not exists(name)


def test_the_segments_of_a_killed_group_are_unlinked(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10)
    os.killpg(0, signal.SIGKILL)
    """
    assert run(script, MAKE + textwrap.dedent(body), name).code == -9
    assert not exists(name)


def test_an_attacher_in_the_same_tree_leaves_the_tracking_alone(script: Path, name: str) -> None:
    """The tracker keeps a set: who attaches and then takes that back takes back the maker's entry."""
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10)
    SharedMemory(sys.argv[1]).close()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(script, MAKE + textwrap.dedent(body), name).code == -9
    assert not exists(name)


UNDO = """
from multiprocessing import resource_tracker
from phalanx.multiprocessing import resource_tracker as ours, shared_memory
resource_tracker.unregister = ours.unregister
"""


def test_programs_that_undo_the_tracking_of_an_attacher(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10)
    attach = ATTACH + "a = SharedMemory(sys.argv[1]); "
    done = alone(UNDO + attach + "resource_tracker.unregister(a._name, 'shared_memory')", segment.name)
    print(done.stdout, done.stderr)
    exec(UNDO)
    segment.unlink()
    mine = SharedMemory(sys.argv[1], create=True, size=10)
    again = SharedMemory(sys.argv[1])
    resource_tracker.unregister(mine._name, "shared_memory")
    """
    assert run(script, f"UNDO = {UNDO!r}\n" + MAKE + WATCH + textwrap.dedent(body), name) == (0, " \n", "")
    assert exists(name)  # by its maker's own wish


# ---------------------------------------------------------------- lists in named segments


def test_shareable_list_has_the_standard_layout(name: str) -> None:
    items = ["howdy", b"HoWdY", -273.154, 100, None, True, 42, "", b"", "12345678", "1234567é"]
    ours = shared_memory.ShareableList(items)
    theirs = standard_shared_memory.ShareableList(items)
    try:
        size = min(ours.shm.size, theirs.shm.size)
        assert bytes(ours.shm.buf[:size]) == bytes(theirs.shm.buf[:size]) and ours.shm.size == theirs.shm.size
        assert list(ours) == items and len(ours) == 11
        assert ours.format == theirs.format == "8s8sdqxxxxxx?xxxxxxxx?q8s8s16s16s"
        attached = shared_memory.ShareableList(name=theirs.shm.name)
        assert list(attached) == items
        attached[3] = 101
        assert theirs[3] == 101
        attached.shm.close()
    finally:
        for it in (ours, theirs):
            it.shm.close()
            it.shm.unlink()


def test_shareable_list(name: str) -> None:
    listed = shared_memory.ShareableList(["abc", 1, None, 2.5], name=name)
    again = pickle.loads(pickle.dumps(listed))
    try:
        assert listed.shm.name == name and repr(again) == f"ShareableList(['abc', 1, None, 2.5], name={name!r})"
        again[2] = "four"
        again[-1] = True
        assert list(listed) == ["abc", 1, "four", True] and listed.index(True) == 1 and listed.count("four") == 1
        with pytest.raises(ValueError, match="exceeds available storage"):
            again[0] = "123456789"
        with pytest.raises(IndexError):
            again[4]
        other = shared_memory.ShareableList(listed)
        assert list(other) == list(listed)
        other.shm.close()
        other.shm.unlink()
    finally:
        for it in (listed, again):
            it.shm.close()
        listed.shm.unlink()


def test_text_of_a_list_is_measured_in_bytes() -> None:
    items = ["é" * 9, "日本語日本語", "é", "123456é"]
    listed = shared_memory.ShareableList(items)
    assert list(listed) == items and listed.format == "24s24s8s8s"
    listed.shm.close()
    listed.shm.unlink()


def test_a_list_that_cannot_be_leaves_nothing(name: str) -> None:
    with pytest.raises(struct.error):
        shared_memory.ShareableList([2**70], name=name)
    assert not exists(name)
    with pytest.raises(KeyError):
        shared_memory.ShareableList([object()], name=name)
    empty = shared_memory.ShareableList(name=None)
    assert (len(empty), list(empty), empty.format) == (0, [], "")
    empty.shm.close()
    empty.shm.unlink()
