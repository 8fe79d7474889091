"""The standard `queue` module in Rust: the same names, `shutdown()` on every Python version, and no lost wake-up.

A queue begins native: its items are in Rust and a call runs no Python code. It moves to its *open form*, ordinary
Python with a lock and three conditions, as soon as somebody asks for `queue`, `mutex`, `not_empty`, `not_full` or
`all_tasks_done`, or from the start if a subclass has its own `_init`, `_qsize`, `_put` or `_get`. Both forms behave
alike; the open one is slower.
"""

from __future__ import annotations

import queue as _std
import sys as _sys
from collections import deque as _deque
from heapq import heappop as _heappop
from heapq import heappush as _heappush
from time import monotonic as _monotonic
from types import GenericAlias as _GenericAlias

from phalanx import _core
from phalanx.threading import Condition as _Condition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "ShutDown", "SimpleQueue"]

Empty = _std.Empty
Full = _std.Full
SimpleQueue = _core.SimpleQueue

if TYPE_CHECKING or _sys.version_info < (3, 13):

    class ShutDown(Exception):
        """Raised by `put` after `shutdown()`, and by `get` once nothing is left."""

        __module__ = "queue"

else:
    ShutDown = _std.ShutDown


def _refuse_to_pickle(self: SimpleQueue) -> Any:
    raise TypeError("cannot pickle '_queue.SimpleQueue' object")


# A plain Python method, so that the class can be told from the standard one of the same name.
SimpleQueue.__reduce__ = _refuse_to_pickle  # type: ignore[method-assign, assignment]
_core._set_queue_parts(Empty, Full, ShutDown, _heappush, _heappop)

_HOOKS = ("_init", "_qsize", "_put", "_get")


class _OpenName:
    """An attribute that only the open form has: asking for it opens the queue, which then has its own."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, queue: Any, owner: type | None = None) -> Any:
        if queue is None:
            return self
        queue._open()
        if self._name not in queue.__dict__:
            raise AttributeError(f"{type(queue).__name__!r} object has no attribute {self._name!r} yet")
        return queue.__dict__[self._name]


class Queue(_core.Queue):
    """A queue for any number of producing and consuming threads: what is put first is got first.

    `maxsize`: how many items it holds at the most, 0 or less for any number. `put` waits while it is full, `get` while
    it is empty; `put_nowait` and `get_nowait` raise `Full` and `Empty` instead. `task_done` and `join` count what has
    been dealt with; `shutdown` ends it.

    The methods for subclasses are `_init(maxsize)`, `_qsize()`, `_put(item)` and `_get()`; they run with `mutex` held.
    """

    __module__ = "queue"
    _native = True

    queue: Any = _OpenName()
    mutex: Any = _OpenName()
    not_empty: Any = _OpenName()
    not_full: Any = _OpenName()
    all_tasks_done: Any = _OpenName()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        kinds = globals().get("_KINDS", ())
        cls._native = not any(hook in vars(base) for base in cls.__mro__ if base not in kinds for hook in _HOOKS)
        # In Rust the short forms do not pass by the long ones; a subclass that has its own expects that.
        # It may have it from a class of its own or from one beside ours.
        own: Any = cls
        ours = {name: {getattr(kind, name) for kind in kinds} for name in ("put", "put_nowait", "get", "get_nowait")}
        if kinds and own.put not in ours["put"] and own.put_nowait in ours["put_nowait"]:
            own.put_nowait = _put_nowait_by_put
        if kinds and own.get not in ours["get"] and own.get_nowait in ours["get_nowait"]:
            own.get_nowait = _get_nowait_by_get

    def __init__(self, maxsize: int = 0) -> None:
        self._set_bound(maxsize)
        self.__dict__["_maxsize"] = maxsize
        # Two threads that ask for the open form at one time must not both make it, while hooks may ask again.
        self.__dict__["_opening"] = _core.RLock()
        if not self._native:
            self._open()

    __class_getitem__: Any = classmethod(_GenericAlias)

    @property
    def maxsize(self) -> int:
        """How many items it holds at the most; 0 or less for any number."""
        size: int = self.__dict__["_maxsize"]
        return size

    @maxsize.setter
    def maxsize(self, maxsize: int) -> None:
        self._set_bound(maxsize)
        self.__dict__["_maxsize"] = maxsize

    @property
    def unfinished_tasks(self) -> int:
        """How many items were put for which `task_done` has not been called."""
        return self._open_unfinished if self._is_open() else self._unfinished()

    @unfinished_tasks.setter
    def unfinished_tasks(self, count: int) -> None:
        self._open()
        self._open_unfinished = count

    @property
    def is_shutdown(self) -> bool:
        """Whether `shutdown` was called."""
        return self._open_closed if self._is_open() else self._is_closed()

    @is_shutdown.setter
    def is_shutdown(self, closed: bool) -> None:
        self._open()
        self._open_closed = closed

    def empty(self) -> bool:
        """Whether it is empty. Another thread may change that at once."""
        return not _core.Queue.qsize(self)

    def full(self) -> bool:
        """Whether it has as many items as it can hold. Another thread may change that at once."""
        return 0 < self.maxsize <= _core.Queue.qsize(self)

    # ---------------------------------------------------------------- the hooks for subclasses

    def _init(self, maxsize: int) -> None:
        self.queue = _deque()

    def _qsize(self) -> int:
        return len(self.queue)

    def _put(self, item: Any) -> None:
        self.queue.append(item)

    def _get(self) -> Any:
        return self.queue.popleft()

    # ---------------------------------------------------------------- the open form

    def _open(self) -> None:
        """Moves the items to Python objects, for good."""
        names = self.__dict__
        with names["_opening"]:
            if "all_tasks_done" in names or names.get("_is_opening"):
                return
            names["_is_opening"] = True
            try:
                mutex = _core.allocate_lock()
                with mutex:
                    names["mutex"] = mutex
                    names["not_empty"] = _Condition(mutex)
                    names["not_full"] = _Condition(mutex)
                    self._open_unfinished, self._open_closed = 0, False
                    self._init(names["_maxsize"])
                    # From here on other threads come by way of the mutex, which we hold until all is in place.
                    items, self._open_unfinished, self._open_closed = self._move_out() or ([], 0, False)
                    for item in items:
                        self._put(item)
                    names["all_tasks_done"] = _Condition(mutex)
            finally:
                del names["_is_opening"]

    def _open_put(self, item: Any, block: bool, timeout: float | None) -> None:
        with self.not_full:
            if self._open_closed:
                raise ShutDown
            if self.maxsize > 0:
                if not block:
                    if self._qsize() >= self.maxsize:
                        raise Full
                else:
                    self._open_wait(self.not_full, timeout, lambda: self._qsize() < self.maxsize, Full)
                    if self._open_closed:
                        raise ShutDown
            self._put(item)
            self._open_unfinished += 1
            self.not_empty.notify()

    def _open_get(self, block: bool, timeout: float | None) -> Any:
        with self.not_empty:
            if not block:
                if not self._qsize():
                    raise ShutDown if self._open_closed else Empty
            else:
                self._open_wait(self.not_empty, timeout, self._qsize, Empty)
                if not self._qsize():
                    raise ShutDown
            item = self._get()
            self.not_full.notify()
            return item

    def _open_wait(self, condition: _Condition, timeout: float | None, ready: Any, failure: type[Exception]) -> None:
        """Waits until `ready()` or the shutdown; raises `failure` when the time is over."""
        end = None if timeout is None else _monotonic() + timeout
        while not ready() and not self._open_closed:
            left = None if end is None else end - _monotonic()
            if left is not None and left <= 0:
                raise failure
            condition.wait(left)

    def _open_task_done(self) -> None:
        with self.all_tasks_done:
            if self._open_unfinished <= 0:
                raise ValueError("task_done() called too many times")
            self._open_unfinished -= 1
            if not self._open_unfinished:
                self.all_tasks_done.notify_all()

    def _open_join(self) -> None:
        with self.all_tasks_done:
            while self._open_unfinished:
                self.all_tasks_done.wait()

    def _open_qsize(self) -> int:
        with self.mutex:
            return self._qsize()

    def _open_shutdown(self, immediate: bool) -> None:
        with self.mutex:
            self._open_closed = True
            if immediate:
                while self._qsize():
                    self._get()
                    if self._open_unfinished > 0:
                        self._open_unfinished -= 1
                self.all_tasks_done.notify_all()
            self.not_empty.notify_all()
            self.not_full.notify_all()


def _put_nowait_by_put(self: Queue, item: Any) -> None:
    self.put(item, block=False)


def _get_nowait_by_get(self: Queue) -> Any:
    return self.get(block=False)


class PriorityQueue(_core.PriorityQueue, Queue):
    """A queue that gives out the smallest item first; items are often `(priority, data)`."""

    __module__ = "queue"

    def _init(self, maxsize: int) -> None:
        self.queue = []

    def _put(self, item: Any) -> None:
        _heappush(self.queue, item)

    def _get(self) -> Any:
        return _heappop(self.queue)


class LifoQueue(_core.LifoQueue, Queue):
    """A queue that gives out the newest item first."""

    __module__ = "queue"

    def _init(self, maxsize: int) -> None:
        self.queue = []

    def _put(self, item: Any) -> None:
        self.queue.append(item)

    def _get(self) -> Any:
        return self.queue.pop()


# The classes whose own hooks the native form stands for.
_KINDS = (Queue, PriorityQueue, LifoQueue)
for _kind in _KINDS:
    _kind._native = True
