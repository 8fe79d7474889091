"""Blocks of shared memory: `multiprocessing.heap` on the memory that all processes of a tree share."""

from __future__ import annotations

import sys

from phalanx._core import SharedBlock

__all__ = ["BufferWrapper"]


class BufferWrapper:
    """Zeroed shared memory of `size` bytes, freed when the last process lets it go. Pickles as a handle, at any time.

    Raises ValueError for a negative size, OverflowError for one beyond `sys.maxsize`, MemoryError if there is no room.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"Size {size:n} out of range")
        if sys.maxsize <= size:
            raise OverflowError(f"Size {size:n} too large")
        self._block = SharedBlock(int(size))

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self._block)

    def create_memoryview(self) -> memoryview:
        """Return a writable view of it, which keeps the memory."""
        return memoryview(self._block)
