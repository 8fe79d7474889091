"""`multiprocessing.connection`: pipes through shared memory; listeners and clients are nearly the standard library's.

Sending never waits for the other end to receive, short of the memory ceiling. `fileno()` is a socket that can be
selected on. Who waits at an end whose other side nobody holds any more gets EOFError, also after a SIGKILL.

What comes over a connection on a descriptor may come from anybody: its lengths are not believed.
"""

from __future__ import annotations

import io
import multiprocessing.connection as _std
import os
import struct
import sys
from multiprocessing import AuthenticationError, BufferTooShort, reduction
from multiprocessing.connection import answer_challenge, deliver_challenge, wait

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

_CHUNK = 1 << 20  # at most so many bytes are made room for before they have come

# Descriptors in messages of this process: the numbers under which they wait to be fetched, and the names of their ends.
_lent: dict[int, tuple[int, int]] = {}


class Connection(_std.Connection):
    """A connection on a descriptor: the standard class, but a length that cannot be is an OSError, and closes it."""

    def _recv(self, size: int, read: Any = os.read) -> io.BytesIO:
        message = io.BytesIO()
        left = size
        while left > 0:
            chunk = read(self._handle, min(left, _CHUNK))  # type: ignore[attr-defined]
            if not chunk:
                if left == size:
                    raise EOFError
                raise OSError("got end of file during message")
            message.write(chunk)
            left -= len(chunk)
        return message

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        (size,) = struct.unpack("!i", self._recv(4).getvalue())
        if size == -1:
            (size,) = struct.unpack("!Q", self._recv(8).getvalue())
        if size < 0:
            self._refuse(size, "a length is not negative")
        if maxsize is not None and size > maxsize:
            return None
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if size > memory:
            self._refuse(size, f"this machine has {memory} bytes of memory")
        return self._recv(size)

    def _refuse(self, size: int, why: str) -> None:
        self.close()
        raise OSError(f"message of {size} bytes announced: {why}")


def _reduce_checked(end: Connection) -> tuple[Any, ...]:
    return _rebuild_checked, (reduction.DupFd(end.fileno()), end.readable, end.writable)


def _rebuild_checked(file: Any, readable: bool, writable: bool) -> Connection:
    return Connection(file.detach(), readable, writable)


reduction.register(Connection, _reduce_checked)


def _checked(end: Any) -> Any:
    """The same end, of our class: nothing has been read from it yet."""
    if type(end) is _std.Connection:
        end.__class__ = Connection
    return end


class _Accepting(_std.SocketListener):  # type: ignore[name-defined,misc]
    def accept(self) -> Any:
        return _checked(super().accept())


class Listener(_std.Listener):
    """Listens for connections. With an authkey nothing that a client sends is unpickled before it has proved itself."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._listener.__class__ = _Accepting  # type: ignore[attr-defined]


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Any:
    """A connection to the listener at `address`; with an authkey both sides prove that they know it."""
    end = _checked(_std.Client(address, family))
    try:
        if authkey is not None:
            if not isinstance(authkey, bytes):
                raise TypeError("authkey should be a byte string")
            answer_challenge(end, authkey)
            deliver_challenge(end, authkey)
    except BaseException:
        end.close()
        raise
    return end


class PipeConnection(_core.PipeEnd, Connection):
    """One end of a pipe: sends and receives objects and bytes, several threads and processes at a time."""

    def __init__(self, seed: object) -> None:
        """Made by `Pipe` and by unpickling."""

    def __del__(self) -> None:
        """Take back what was lent; the native half ends by itself."""
        if _lent:
            _take_back()

    def close(self) -> None:
        """Let go of it in this process. Harmless when repeated."""
        super().close()
        if _lent:
            _take_back()

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
        if _lent:
            _take_back()
        state, (socket, other) = self._pack(), self._files()
        files: Any = (reduction.DupFd(socket), None if other is None else reduction.DupFd(other))
        # What goes to a new process with its arguments has no numbers.
        numbers = [file._id[1] for file in files if hasattr(file, "_id")]
        _lent.update(dict.fromkeys(numbers, self._name()))
        return _rebuild, (type(self), state, *files)


def _rebuild(cls: type[PipeConnection], state: Any, socket: Any, other: Any) -> PipeConnection:
    end: PipeConnection = cls._unpack(state, socket.detach(), None if other is None else other.detach())
    return end


def _take_back() -> None:
    """Close the descriptors in messages that are lost, with a getter that was killed over one or with a queue."""
    sharer: Any = sys.modules["multiprocessing.resource_sharer"]
    for number, name in list(_lent.items()):
        if PipeConnection._may_travel(*name) or _lent.pop(number, None) is None:
            continue
        # Gone if it was fetched. Without the sharer's lock, as the sharer itself: we may be inside a finalizer.
        _, close = sharer._resource_sharer._cache.pop(number, (None, None))
        if close is not None:
            close()


def Pipe(duplex: bool = True) -> tuple[PipeConnection, PipeConnection]:
    """Two connected ends. If not duplex the first can only receive and the second only send."""
    first, second = _core.make_pipe(PipeConnection, duplex, _settings.queue_memory())
    return first, second
