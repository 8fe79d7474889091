"""The queues of `multiprocessing.queues`: a ring in shared memory for all processes of a tree.

There is no feeder thread: what `put` has returned from is in the queue, whatever happens to the process then. `put`
raises at once what pickling raises. A process killed while it puts or gets takes the one item in its hands with it, and
nothing else.
"""

from __future__ import annotations

import threading
import types
from multiprocessing import reduction
from queue import Empty, Full

from phalanx import _core, _settings
from phalanx.multiprocessing.connection import Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]


class Queue(_core.Channel):
    """A first-in-first-out queue for any number of processes and threads of a tree.

    maxsize: items, no limit if <= 0. Large objects wait for room too once they fill `PHALANX_QUEUE_MEMORY` bytes, of
    this queue alone. `qsize`, `empty` and `full` are exact.
    """

    _joinable = False

    # A subclass may have arguments of its own: what counts is what it gives to `__init__`.
    def __new__(cls, *args: Any, _packed: Any = None, **more: Any) -> Any:
        """Make it, or take up the handle of one."""
        return super().__new__(cls, 0, _settings.queue_memory(), cls._joinable, _packed)

    def __init__(self, maxsize: int = 0, *, ctx: object = None) -> None:
        # `concurrent.futures` and subclasses of the standard class set and read these.
        self._limit(maxsize)
        self._maxsize = maxsize
        self._ignore_epipe = False
        self._reader = _End(self)
        self._writer = _End(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_queue, (type(self), self._pack()), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        # As in the standard class, what a subclass adds goes along only if it says so in its own `__getstate__`.
        return {"_maxsize": self._maxsize, "_ignore_epipe": self._ignore_epipe}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reader = _End(self)
        self._writer = _End(self)

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        own: Any = cls
        # A class that puts in its own way keeps that, and hears from its `super().put` what pickling raises.
        if own.put is _core.Channel.put and own._on_queue_feeder_error is not Queue._on_queue_feeder_error:
            own.put = _put_and_tell
        # In Rust the short forms do not pass by the long ones; a subclass that has its own expects that.
        if own.put is not _core.Channel.put and own.put_nowait is _core.Channel.put_nowait:
            own.put_nowait = _put_nowait_by_put
        if own.get is not _core.Channel.get and own.get_nowait is _core.Channel.get_nowait:
            own.get_nowait = _get_nowait_by_get

    @staticmethod
    def _on_queue_feeder_error(e: BaseException, obj: object) -> None:
        """A subclass that defines this is told of objects that cannot be pickled, in place of an error from `put`."""
        import traceback

        traceback.print_exc()

    def close(self) -> None:
        """Refuse further puts and gets of this process. What is in the queue stays for the others."""
        self._close()

    def join_thread(self) -> None:
        """Nothing to wait for: what was put is in the queue already."""

    def cancel_join_thread(self) -> None:
        """Nothing to cancel: what was put is in the queue already."""

    def _terminate_broken(self) -> None:
        self._close()

    __class_getitem__: Any = classmethod(types.GenericAlias)


def _rebuild_queue(cls: type[Queue], packed: Any) -> Queue:
    queue: Queue = cls.__new__(cls, _packed=packed)
    return queue


def _put_and_tell(self: Queue, obj: Any, block: bool = True, timeout: float | None = None) -> None:
    """As `put`, for a class that wants to be told of objects that cannot be pickled."""
    if not self._closed:
        try:
            reduction.ForkingPickler.dumps(obj)
        except Exception as error:
            self._on_queue_feeder_error(error, obj)
            return
    _core.Channel.put(self, obj, block, timeout)


def _put_nowait_by_put(self: Queue, obj: Any) -> None:
    self.put(obj, False)


def _get_nowait_by_get(self: Queue) -> Any:
    return self.get(False)


class _End:
    """What programs that reach for the pipe inside a standard queue find instead."""

    __slots__ = ("_closed", "_queue")

    def __init__(self, queue: Queue) -> None:
        import weakref

        self._queue = weakref.ref(queue)
        self._closed = False

    def close(self) -> None:
        """Note that this end is not wanted any more."""
        self._closed = True

    @property
    def closed(self) -> bool:
        """Whether `close` has been called, or the queue been closed."""
        queue = self._queue()
        return self._closed or queue is None or queue._closed

    def poll(self, timeout: float = 0.0) -> bool:
        """Whether there is something to get."""
        queue = self._queue()
        return queue is not None and queue.qsize() > 0

    def fileno(self) -> int:
        """Raise OSError: a queue has no descriptor."""
        raise OSError("a phalanx Queue has no descriptor to select on; a SimpleQueue or a Pipe has")


class JoinableQueue(Queue):
    """A `Queue` that counts its items until they are done.

    If a process dies with items that it got and did not finish, `join` raises `phalanx.OwnerDied` and names it.
    """

    _joinable = True

    task_done = _core.Channel.task_done
    join = _core.Channel.join


class SimpleQueue:
    """A first-in-first-out queue without limits on its length, on top of a pipe: `_reader` can be selected on."""

    def __init__(self, *, ctx: object = None) -> None:
        self._reader, self._writer = Pipe(duplex=False)
        self._bind()

    def put(self, obj: Any) -> None:
        """Put something. Raises at once what pickling raises."""
        self._writer.send(obj)

    def get(self) -> Any:
        """Take the oldest thing, and wait for one."""
        return self._reader.recv()

    _own = (put, get)

    def _bind(self) -> None:
        # Straight to the pipe, which saves a call; but what a subclass has made of them comes first.
        put, get = self._own
        if type(self).put is put:
            self.put = self._writer.send  # type: ignore[assignment, method-assign]
        if type(self).get is get:
            self.get = self._reader.recv  # type: ignore[method-assign]
        # Nothing here needs them, but the standard pool takes the first when it ends.
        self._rlock, self._wlock = threading.Lock(), threading.Lock()

    def __getstate__(self) -> tuple[Any, Any]:
        return (self._reader, self._writer)

    def __setstate__(self, state: tuple[Any, Any]) -> None:
        self._reader, self._writer = state
        self._bind()

    def empty(self) -> bool:
        """Is it empty? Exact. Raises OSError if this process has closed it."""
        return not self._reader._has_item()

    def close(self) -> None:
        """Let go of it in this process. Harmless when repeated."""
        self._reader.close()
        self._writer.close()

    __class_getitem__: Any = classmethod(types.GenericAlias)
