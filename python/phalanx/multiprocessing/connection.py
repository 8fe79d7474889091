"""`multiprocessing.connection`: pipes through shared memory; listeners and clients stay the standard library's.

Sending never waits for the other end to receive, short of the memory ceiling. `fileno()` is a socket that can be
selected on. Who waits at an end whose other side nobody holds any more gets EOFError, also after a SIGKILL.
"""

from __future__ import annotations

import multiprocessing.connection as _std
from multiprocessing import AuthenticationError, BufferTooShort, reduction
from multiprocessing.connection import (
    Client,
    Listener,
    answer_challenge,
    deliver_challenge,
    wait,
)

from phalanx import _core, _settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = [
    "AuthenticationError",
    "Client",
    "Connection",
    "Listener",
    "Pipe",
    "answer_challenge",
    "deliver_challenge",
    "wait",
]

Connection = _std.Connection


class PipeConnection(_core.PipeEnd, Connection):
    """One end of a pipe: sends and receives objects and bytes, several threads and processes at a time."""

    def __init__(self, seed: object) -> None:
        """Made by `Pipe` and by unpickling."""

    def __del__(self) -> None:
        """The native half ends by itself."""

    @property
    def _handle(self) -> int | None:
        return None if self.closed else self.fileno()

    @_handle.setter
    def _handle(self, value: int | None) -> None:
        if value is None:
            self.close()

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send the bytes of a bytes-like object, or `size` of them from `offset` on, as one message."""
        if offset == 0 and size is None and type(buf) is bytes:
            self._send_buffer(buf)
            return
        view = memoryview(buf)
        if view.itemsize > 1 or view.ndim > 1:
            view = view.cast("B") if view.contiguous else memoryview(bytes(view))
        length = len(view)
        if offset < 0:
            raise ValueError("offset is negative")
        if length < offset:
            raise ValueError("buffer length < offset")
        if size is None:
            size = length - offset
        elif size < 0:
            raise ValueError("size is negative")
        elif offset + size > length:
            raise ValueError("buffer length < offset + size")
        self._send_buffer(view[offset : offset + size])

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive one message as bytes. maxlength: OSError, and the end is closed, if it is longer."""
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        message: bytes = self._recv_whole()
        if maxlength is not None and len(message) > maxlength:
            self.close()
            raise OSError("bad message length")
        return message

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Receive one message into a writable buffer from `offset` on; return its length in bytes.

        Raises BufferTooShort, with the message as its argument, if there is not enough room.
        """
        with memoryview(buf) as view, view.cast("B") as flat:
            if offset < 0:
                raise ValueError("negative offset")
            if offset > len(flat):
                raise ValueError("offset too large")
            message = self._recv_whole()
            if len(flat) < offset + len(message):
                raise BufferTooShort(message)
            flat[offset : offset + len(message)] = message
            return len(message)

    def _has_item(self) -> bool:
        return bool(self._pending())

    def __enter__(self) -> Self:
        self._check_closed()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _check_closed(self) -> None:
        if self.closed:
            raise OSError("handle is closed")

    def __reduce__(self) -> tuple[Any, ...]:
        socket, other = self._files()
        files = reduction.DupFd(socket), None if other is None else reduction.DupFd(other)
        return _rebuild, (type(self), self._pack(), *files)


def _rebuild(cls: type[PipeConnection], state: Any, socket: Any, other: Any) -> PipeConnection:
    end: PipeConnection = cls._unpack(state, socket.detach(), None if other is None else other.detach())
    return end


def Pipe(duplex: bool = True) -> tuple[PipeConnection, PipeConnection]:
    """Two connected ends. If not duplex the first can only receive and the second only send."""
    first, second = _core.make_pipe(PipeConnection, duplex, _settings.queue_memory())
    return first, second
