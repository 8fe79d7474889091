"""Shared ctypes objects, with a lock and without."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing.sharedctypes as standard_sharedctypes
import textwrap
import threading
import weakref
from array import array
from multiprocessing import context as standard_context
from pathlib import Path
from typing import Any

import pytest
from tests.memory import core, through_pickle, used
from tests.test_processes import METHODS, run, script

from phalanx.multiprocessing import get_context, sharedctypes
from phalanx.multiprocessing.sharedctypes import Array, RawArray, RawValue, Value

__all__ = ["script"]


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
