"""NumPy arrays in shared memory."""

from __future__ import annotations

from importlib import import_module
from math import prod
from typing import Any

from phalanx._core import SharedBlock

__all__ = ["SharedArray", "ndarray"]

np: Any = import_module("numpy")  # type checkers may not have it


class SharedArray(np.ndarray):  # type: ignore[misc]
    """A NumPy array whose memory all processes of a tree share; made by `ndarray()`.

    It goes to another process as a handle, at any time, and so does a view of it (a slice, a field, a transposition):
    both processes then see the same memory, which lives as long as any of them uses it. A copy of it has memory of its
    own, whatever its class says, and is pickled by value; so is a view made by `numpy.asarray()`. What ufuncs return is
    a plain array. Nothing is locked.
    """

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:
            return array
        plain = array.view(np.ndarray)
        return plain[()] if return_scalar or plain.ndim == 0 else plain

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __reduce_ex__(self, protocol: Any) -> Any:
        block = self.base
        while isinstance(block, np.ndarray):
            block = block.base
        if not isinstance(block, SharedBlock):
            return self.view(np.ndarray).__reduce_ex__(protocol)
        # Empty views may point anywhere.
        offset = self.ctypes.data - block._address if self.size else 0
        return _view, (block, self.shape, self.dtype, offset, self.strides if self.size else None)


def ndarray(shape: Any, dtype: Any = float, order: Any = "C") -> SharedArray:
    """Return a zeroed NumPy array in shared memory.

        counts = ndarray((4, 1000), dtype="i8")
        counts[:] = values  # to put an array there

    Raises TypeError for a dtype that holds Python objects, MemoryError if there is no room.
    """
    dtype = np.dtype(dtype)
    if dtype.hasobject:
        raise TypeError(f"an array of dtype {dtype} cannot be shared: its objects belong to this process")
    shape = (shape,) if hasattr(shape, "__index__") else tuple(shape)
    if any(n < 0 for n in shape):
        raise ValueError("negative dimensions are not allowed")
    block = SharedBlock(int(prod(shape)) * dtype.itemsize)
    return SharedArray(shape, dtype, block, order=order)


def _view(block: SharedBlock, shape: Any, dtype: Any, offset: int, strides: Any) -> SharedArray:
    return SharedArray(shape, dtype, block, offset, strides)
