"""ctypes objects in shared memory, with or without a lock: the counterpart of `multiprocessing.sharedctypes`.

The memory is that of the tree of processes, so an object can go to another process at any time, also through a queue,
and lives as long as any process has it. Only a lock makes `v.value += 1` one step: `with v.get_lock()`; for a mere
counter there is `AtomicCounter`.
"""

from __future__ import annotations

import ctypes
import weakref
from multiprocessing.reduction import ForkingPickler

from phalanx import _core
from phalanx.multiprocessing.heap import BufferWrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

typecode_to_type: dict[Any, Any] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}


# ---------------------------------------------------------------- factories


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """Return a ctypes object in shared memory, made with `args`, without a lock."""
    obj = _new_value(typecode_to_type.get(typecode_or_type, typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """Return a ctypes array in shared memory, zeroed or with the items of a sequence, without a lock."""
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_value(type_ * size_or_initializer)
    array = _new_value(type_ * len(size_or_initializer))
    array.__init__(*size_or_initializer)
    return array


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """Return a ctypes object in shared memory with a lock: a new RLock, the one given, or none if `lock` is False.

    Raises AttributeError for a lock without `acquire`.
    """
    return _with_lock(RawValue(typecode_or_type, *args), lock, ctx)


def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None) -> Any:
    """Return a ctypes array in shared memory with a lock, as `Value` has it."""
    return _with_lock(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def copy(obj: Any) -> Any:
    """Return a copy of a ctypes object, in shared memory."""
    new = _new_value(type(obj))
    ctypes.memmove(ctypes.addressof(new), ctypes.addressof(obj), ctypes.sizeof(obj))
    return new


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Return a wrapper of a ctypes object whose attributes or items are used under a lock, a new one by default."""
    if isinstance(obj, SynchronizedBase):
        raise AssertionError("object already synchronized")
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        return (SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray)(obj, lock, ctx)
    structure: Any = type(obj)
    wrapper = class_cache.get(structure)
    if wrapper is None:
        properties = {field[0]: make_property(field[0]) for field in structure._fields_}
        wrapper = type(f"Synchronized{structure.__name__}", (SynchronizedBase,), properties)
        class_cache[structure] = wrapper
    return wrapper(obj, lock, ctx)


def _new_value(type_: Any) -> Any:
    return rebuild_ctype(type_, BufferWrapper(ctypes.sizeof(type_)), None)


def _with_lock(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        lock = _new_lock(ctx)
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx)


def _new_lock(ctx: Any) -> Any:
    if not ctx:
        from phalanx.multiprocessing import get_context

        ctx = get_context()
    return ctx.RLock()


# ---------------------------------------------------------------- pickling


def reduce_ctype(obj: Any) -> Any:
    """Pickle a ctypes object that lies in shared memory, or a part of one, as a handle; any other by value."""
    whole = obj
    while whole._b_base_ is not None:
        whole = whole._b_base_
    wrapper = getattr(whole, "_wrapper", None)
    if wrapper is None:
        return obj.__reduce_ex__(2)
    view = wrapper.create_memoryview()
    offset = ctypes.addressof(obj) - ctypes.addressof(ctypes.c_char.from_buffer(view)) if len(view) else 0
    # The types of arrays are made as they are needed; pickle would not find them.
    type_: Any = type(obj)
    lengths = []
    while issubclass(type_, ctypes.Array) and type_ is type_._type_ * type_._length_:
        lengths.append(type_._length_)
        type_ = type_._type_
    return rebuild_ctype, (type_, wrapper, tuple(lengths), offset)


def rebuild_ctype(type_: Any, wrapper: Any, length: Any, offset: int = 0) -> Any:
    """Return an object of a ctypes type in the memory of `wrapper`.

    `length`: of an array of that type, None for no array, a tuple for an array of arrays, the outermost first.
    """
    if length is not None:
        for n in reversed(length) if isinstance(length, tuple) else (length,):
            type_ *= n
    ForkingPickler.register(type_, reduce_ctype)
    obj = type_.from_buffer(wrapper.create_memoryview(), offset)
    obj._wrapper = wrapper
    return obj


# ---------------------------------------------------------------- wrappers

prop_cache: dict[str, Any] = {}
class_cache: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def make_property(name: str) -> Any:
    """Return a property for subclasses of `SynchronizedBase`: an attribute of the object inside, under the lock."""
    found = prop_cache.get(name)
    if found is None:
        found = prop_cache[name] = _core._locked_property(name)
    return found


def _number_in(obj: Any) -> tuple[int, int]:
    """The type code and the address of a plain number in shared memory, which is read and set without ctypes."""
    code = _CODES.get(type(obj))
    if code is None or not hasattr(obj, "_wrapper"):
        return 0, 0
    address = ctypes.addressof(obj)
    return (code, address) if address % ctypes.sizeof(obj) == 0 else (0, 0)


_CODES = {type_: ord(type_._type_) for code, type_ in typecode_to_type.items() if code not in "cu"}


class SynchronizedBase(_core.SynchronizedBase):
    """A ctypes object and its lock; `with` takes the lock, and so does `acquire()`."""

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        self._bind(obj, lock or _new_lock(ctx), *_number_in(obj))

    def __reduce__(self) -> Any:
        return synchronized, (self._obj, self._lock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapper for {self._obj}>"


class Synchronized(SynchronizedBase):
    """A number or another simple ctypes object with a lock."""

    value = make_property("value")


class SynchronizedArray(SynchronizedBase):
    """A ctypes array with a lock, taken for each item or slice."""

    __len__ = _core.SynchronizedBase._len
    __getitem__ = _core.SynchronizedBase._getitem
    __setitem__ = _core.SynchronizedBase._setitem


class SynchronizedString(SynchronizedArray):
    """A ctypes array of characters with a lock."""

    value = make_property("value")
    raw = make_property("raw")
