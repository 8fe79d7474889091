"""Pickling for what crosses to another process: as `multiprocessing` pickles, and large buffers without a copy."""

from __future__ import annotations

import copyreg
from array import array
from multiprocessing import reduction
from pickle import PickleBuffer, Pickler, UnpicklingError, dumps, loads
from typing import Any

__all__ = ["BUFFERS", "PROTOCOL", "UnpicklingError", "dump", "dump_in_band", "dumps", "loads"]

# Fixed: receivers unpickle with the same phalanx. The first protocol that has buffers.
PROTOCOL = 5

# A smaller buffer travels inside the pickle: a view of its own costs more than the copy, and keeps the whole message.
_OUT_OF_BAND = 4096

# The keywords of a call of `loads` by the extension module.
BUFFERS = ("buffers",)


class _Taker:
    """Takes what a pickler writes as it comes. It writes large bytes and bytearrays as they are, not as copies."""

    __slots__ = ("buffers", "stream")

    def __init__(self) -> None:
        self.stream: list[bytes | PickleBuffer] = []
        self.buffers: list[PickleBuffer] = []

    def write(self, part: Any) -> None:
        """Take a part of the stream; a bytearray keeps its size as long as it is exported."""
        self.stream.append(part if type(part) is bytes else PickleBuffer(part))

    def take(self, buffer: PickleBuffer) -> bool:
        """Take a buffer, or say that it shall travel in the stream."""
        if memoryview(buffer).nbytes < _OUT_OF_BAND:
            return True
        # An export of our own: the other one can be released by whoever made it.
        self.buffers.append(PickleBuffer(buffer))
        return False


# Picklers that wait to be used again, with what takes from them: to make them costs more than a small pickle.
_idle: list[tuple[Pickler, _Taker]] = []


def dump(obj: object) -> tuple[list[bytes | PickleBuffer], list[PickleBuffer]]:
    """Pickle an object: the parts of the stream, to be joined, and the buffers it refers to."""
    try:
        pickler, taker = _idle.pop()
    except IndexError:
        taker = _Taker()
        pickler = Pickler(taker, PROTOCOL, buffer_callback=taker.take)
    pickler.dispatch_table = _reducers()
    pickler.dump(obj)  # One that fails is not used again.
    stream, buffers = taker.stream, taker.buffers
    taker.stream, taker.buffers = [], []
    if len(stream) == 1:
        # Not after something large: the memo is cleared, but keeps its size, and each time it is cleared again.
        pickler.clear_memo()
        _idle.append((pickler, taker))
    return stream, buffers


def dump_in_band(obj: object) -> bytes:
    """Pickle an object with everything in the stream."""
    taker = _Taker()
    pickler = Pickler(taker, PROTOCOL)
    pickler.dispatch_table = _reducers()
    pickler.dump(obj)
    return b"".join(taker.stream)


_Reducers = dict[Any, Any]

# What had been registered when `_reducers` was called last, and what it made of that.
_seen: tuple[_Reducers, _Reducers, _Reducers] = ({}, {}, {})


def _reducers() -> _Reducers:
    """What `multiprocessing` and the program have registered until now, before what we add."""
    global _seen
    general: _Reducers = copyreg.dispatch_table
    special: _Reducers = reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    seen_general, seen_special, reducers = _seen
    if not reducers or general != seen_general or special != seen_special:
        # One dict: a chain of them, as in ForkingPickler, takes longer to look into.
        reducers = {**_OURS, **general, **special}
        _seen = (general.copy(), special.copy(), reducers)
    return reducers


def _reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    if view.ndim != 1 and 0 in (view.shape or ()):
        raise TypeError(f"cannot pickle a memoryview of shape {view.shape}, which has no items")
    try:
        memoryview(bytes(view.itemsize)).cast(view.format)  # type: ignore[call-overload]
    except ValueError:
        raise TypeError(f"cannot pickle a memoryview of format {view.format!r}") from None
    if view.c_contiguous:
        buffer = PickleBuffer(view)
    else:
        buffer = PickleBuffer(view.tobytes() if view.readonly else bytearray(view))
    return _memoryview_from, (buffer, view.format, view.shape)


def _memoryview_from(buffer: bytes | bytearray | memoryview, code: Any, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(buffer)
    return view.cast(code) if len(shape) == 1 else view.cast(code, shape)


def _reduce_array(values: array[Any]) -> Any:
    if len(values) * values.itemsize < _OUT_OF_BAND:
        return values.__reduce_ex__(PROTOCOL)
    return _array_from, (values.typecode, PickleBuffer(values))


def _array_from(code: str, buffer: bytes | bytearray | memoryview) -> array[Any]:
    values: array[Any] = array(code)
    values.frombytes(buffer)
    return values


_OURS = {array: _reduce_array, memoryview: _reduce_memoryview}
