"""Named shared memory: `multiprocessing.shared_memory`, whose segments stay as long as their maker wants.

The segments and the layout of lists are the standard ones, so a process without phalanx can be at the other end. What
is different: a process that only attaches to a segment does not destroy it when it ends, a failure to attach does not
destroy it either, and views that are still in use when a `SharedMemory` goes away are no error. The maker of a segment
is tracked as before: if nobody has unlinked it when the program ends or is killed, the resource tracker does.

For memory that goes from process to process through `multiprocessing` itself, `Array`, `RawArray` and `ndarray` have no
names that could be left behind.
"""

from __future__ import annotations

import _posixshmem  # type: ignore[import-not-found]
import mmap
import os
import struct
from _thread import allocate_lock
from multiprocessing import shared_memory as _std_shared_memory
from multiprocessing import util

from phalanx.multiprocessing.resource_tracker import _tracker, segments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["ShareableList", "SharedMemory"]

_std: Any = _std_shared_memory
_util: Any = util

_starting = allocate_lock()


def _track(path: str) -> None:
    """Tell the resource tracker of a segment.

    If it has to be started, then in a session of its own: who kills the whole process group shall not kill it as well.
    """
    # Never waited for: it may have been held in the parent of a fork. Then `register` starts the tracker as usual.
    if _tracker._fd is None and _starting.acquire(False):
        standard = _util.spawnv_passfds
        _util.spawnv_passfds = lambda *arguments: _start_apart(standard, *arguments)
        try:
            _tracker.ensure_running()
        finally:
            _util.spawnv_passfds = standard
            _starting.release()
    _tracker.register(path, "shared_memory")


def _start_apart(standard: Any, path: Any, arguments: Any, descriptors: Any) -> Any:
    if "resource_tracker" not in str(arguments[-1]):
        return standard(path, arguments, descriptors)  # what another thread starts meanwhile
    import subprocess

    process = subprocess.Popen(arguments, executable=path, pass_fds=descriptors, start_new_session=True)
    process.returncode = 0  # nobody waits for it
    return process.pid


class SharedMemory(_std.SharedMemory):  # type: ignore[misc]
    """A named segment of shared memory, made anew or attached to.

    `name`: without one, `create` makes one up. `size`: in bytes, for `create`. `track`: whether the resource tracker
    removes the segment when this program ends without having unlinked it; by default it does if this object made it.

    Raises ValueError for a size or name that cannot be, FileExistsError for `create` with a name in use,
    FileNotFoundError if there is no such segment.
    """

    _track: bool | None = None

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool | None = None
    ) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        new = bool(self._flags & os.O_EXCL)
        if name is None and not new:
            raise ValueError("'name' can only be None if create=True")
        # Without O_EXCL nobody knows who makes it: somebody has to see to it that it goes.
        self._track = True if track is None and self._flags & os.O_CREAT else track
        self._open(name)
        try:
            if create:
                os.ftruncate(self._fd, size)
            self._size = os.fstat(self._fd).st_size
            self._mmap = mmap.mmap(self._fd, self._size)
            self._buf = memoryview(self._mmap)
            if self._track:
                _track(self._name)
            segments.add(self)
        except BaseException:
            self.close()
            if new:
                _posixshmem.shm_unlink(self._name)
            raise

    def _open(self, name: str | None) -> None:
        while name is None:
            made_up = _std._make_filename()
            try:
                self._fd = _posixshmem.shm_open(made_up, self._flags, mode=self._mode)
            except FileExistsError:
                continue
            self._name = made_up
            return
        path = _whole(f"/{name}" if self._prepend_leading_slash else name)
        self._fd = _posixshmem.shm_open(path, self._flags, mode=self._mode)
        self._name = path

    def __del__(self) -> None:
        try:
            self.close()
        except (OSError, BufferError):
            # A view is in use and keeps the mapping; the descriptor has no such user.
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def unlink(self) -> None:
        """Remove the segment's name; its memory goes with the last process that has it open.

        To be called once, by whichever process. Raises FileNotFoundError if the name is gone already.
        """
        if not self._name:
            return
        _posixshmem.shm_unlink(_whole(self._name))
        if self._track is None:
            # Our tracker may know it from its maker. It complains about what it does not know.
            _track(self._name)
        if self._track is not False:
            _tracker.unregister(self._name, "shared_memory")


def _whole(path: str) -> str:
    """Refuse a name that the system would read only a part of; before 3.13 the functions below do not."""
    if "\0" in path:
        raise ValueError("embedded null character")
    return path


class ShareableList(_std.ShareableList):  # type: ignore[misc]
    """A list of fixed length in named shared memory: its items are int, float, bool, None, and short str and bytes.

    With a `sequence`, a new one is made; with only a `name`, one is attached to. No item can grow beyond the room that
    it got at first. Trailing null characters of str and bytes are lost. Nothing is locked.
    """

    def __init__(self, sequence: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        if sequence is None and name is not None:
            self.shm = SharedMemory(name)
            self._list_len = len(self)
            self._allocated_offsets = list(struct.unpack_from(self._format_size_metainfo, self.shm.buf, 8))
            return
        items = [] if sequence is None else list(sequence)
        encoded = [item.encode() if isinstance(item, str) else item for item in items]
        formats = [self._format_of(*pair) for pair in zip(items, encoded, strict=True)]
        self._list_len = len(items)
        self._allocated_offsets = [0]
        for form in formats:
            self._allocated_offsets.append(self._allocated_offsets[-1] + struct.calcsize(form))
        codes = [self._extract_recreation_code(item) for item in items]
        size = self._offset_back_transform_codes + len(items)
        self.shm = SharedMemory(name, create=True, size=size)
        try:
            self._fill(formats, encoded, codes)
        except BaseException:
            self.shm.close()
            self.shm.unlink()
            raise

    def _fill(self, formats: list[str], items: list[Any], codes: list[int]) -> None:
        buf = self.shm.buf
        struct.pack_into("q" + self._format_size_metainfo, buf, 0, len(items), *self._allocated_offsets)
        for form, item, offset in zip(formats, items, self._allocated_offsets, strict=False):
            struct.pack_into(form, buf, self._offset_data_start + offset, item)
        packed = (form.encode() for form in formats)
        struct.pack_into(self._format_packing_metainfo, buf, self._offset_packing_formats, *packed)
        struct.pack_into(self._format_back_transform_codes, buf, self._offset_back_transform_codes, *codes)

    def _format_of(self, item: Any, encoded: Any) -> str:
        """How an item is packed: text in as much room as the standard one gives it, and in enough."""
        if not isinstance(encoded, bytes):
            form: str = self._types_mapping[type(item)]
            return form
        room, needed = len(item) // self._alignment + 1, -(-len(encoded) // self._alignment)
        return f"{self._alignment * max(room, needed)}s"
