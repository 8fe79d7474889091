"""`Future`, `wait` and `as_completed`."""

from __future__ import annotations

import concurrent.futures._base as _std
from time import monotonic
from types import GenericAlias

from phalanx import _core
from phalanx.threading import Condition, Event, Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# The original class, also when `install()` has put ours in its place.
_StdFuture: Any = _std.Future
_DONE = ("FINISHED", "CANCELLED_AND_NOTIFIED")


class _SharedName:
    """An attribute that only a shared future has: asking for it shares the future, which then has its own."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, future: Any, owner: type | None = None) -> Any:
        if future is None:
            return self
        # First: whoever is interrupted comes here again. `setdefault` is one step for any thread.
        future._share()
        for name, make in _SHARED.items():
            future.__dict__.setdefault(name, make())
        return future.__dict__[self._name]


_SHARED: dict[str, Any] = {"_condition": Condition, "_waiters": list, "_done_callbacks": list}


class Future(_core.FutureBase, _StdFuture):  # type: ignore[misc]
    """The result of a call that may not have been made yet. Made by executors; see `concurrent.futures.Future`.

    - `result(timeout=None)` waits for the call and returns what it returned or raises what it raised;
      `exception(timeout=None)` returns what it raised. Seconds; TimeoutError when they are over.
    - `done()`, `running()`, `cancelled()` look; `cancel()` prevents a call that has not begun.
    - `add_done_callback(fn)` calls `fn(future)` at the end, in the thread that ends it.
    """

    __module__ = "concurrent.futures._base"

    _condition: Any = _SharedName(Condition)
    _waiters: Any = _SharedName(list)
    _done_callbacks: Any = _SharedName(list)

    __class_getitem__: Any = classmethod(GenericAlias)

    def cancel(self, running: bool = False) -> bool:
        """Cancel the call, unless it has begun; return whether it is cancelled.

        running: end it where it has begun. Of effect in pools of processes only: a thread cannot be ended.
        """
        return bool(super().cancel())


_core._set_future_parts(
    [
        _std.CancelledError,
        TimeoutError,
        Future,
        _StdFuture.set_result,
        _StdFuture.set_exception,
        _StdFuture.set_running_or_notify_cancel,
    ]
)


class _Waiter:
    """What futures tell of their ends. The standard library locks all of them to count; this one counts later."""

    def __init__(self) -> None:
        self.event: Any = Event()
        self.lock = Lock()
        self.finished_futures: list[Any] = []
        self._enough: Any = bool

    def _add(self, future: Any) -> None:
        with self.lock:
            self.finished_futures.append(future)
            if self._enough(self.finished_futures):
                self.event.set()

    add_result = add_exception = add_cancelled = _add

    def until(self, enough: Any) -> None:
        """Set the event once `enough(finished_futures)`."""
        with self.lock:
            self._enough = enough
            if enough(self.finished_futures):
                self.event.set()

    def watch(self, futures: Iterable[Any]) -> list[Any]:
        """Be told of these; those that have ended already are returned."""
        ended = []
        for future in futures:
            with future._condition:
                if future._state in _DONE:
                    ended.append(future)
                else:
                    future._waiters.append(self)
        return ended

    def leave(self, futures: Iterable[Any]) -> None:
        """Be told no more."""
        for future in futures:
            with future._condition:
                if self in future._waiters:
                    future._waiters.remove(self)


def _has_failed(future: Any) -> bool:
    return not future.cancelled() and future._exception is not None


def wait(fs: Iterable[Any], timeout: float | None = None, return_when: str = _std.ALL_COMPLETED) -> Any:
    """Wait for futures; return the named tuple `(done, not_done)` of two sets.

    `timeout`: seconds to wait at the most, None for no limit. `return_when`: `FIRST_COMPLETED`, `FIRST_EXCEPTION` (the
    first that raised, or all) or `ALL_COMPLETED`; anything else raises ValueError. O(n) in the number of futures.
    """
    futures = set(fs)
    if return_when not in (_std.FIRST_COMPLETED, _std.FIRST_EXCEPTION, _std.ALL_COMPLETED):
        raise ValueError(f"Invalid return condition: {return_when!r}")
    waiter = _Waiter()
    try:
        done = set(waiter.watch(futures))
        left = len(futures) - len(done)

        def enough(finished: list[Any]) -> bool:
            if len(finished) >= left:
                return True
            if return_when == _std.FIRST_COMPLETED:
                return bool(done or finished)
            return return_when == _std.FIRST_EXCEPTION and any(map(_has_failed, (*done, *finished[-1:])))

        waiter.until(enough)
        waiter.event.wait(timeout)
    finally:
        waiter.leave(futures)
    done.update(waiter.finished_futures)
    return _std.DoneAndNotDoneFutures(done, futures - done)


def as_completed(fs: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
    """Yield each future as its call ends, those that have ended already first, each one once.

    `timeout`: seconds from this call to the end of the last one, None for no limit; then TimeoutError is raised.
    """
    end = None if timeout is None else monotonic() + timeout
    left = set(fs)
    del fs  # a list of the caller's would keep every result
    total = len(left)
    waiter = _Waiter()
    waiter.until(bool)
    try:
        ended = waiter.watch(left)
        left.difference_update(ended)
        while ended or left:
            ended.reverse()
            while ended:
                # Handed out and forgotten at once, so that a result lives no longer than its user wants.
                future = ended.pop()
                with future._condition:
                    if waiter in future._waiters:
                        future._waiters.remove(waiter)
                box = [future]
                del future
                yield box.pop()
            if not left:
                return
            patience = None if end is None else end - monotonic()
            if patience is not None and patience < 0:
                raise TimeoutError(f"{len(left)} (of {total}) futures unfinished")
            waiter.event.wait(patience)
            with waiter.lock:
                ended = waiter.finished_futures
                waiter.finished_futures = []
                waiter.event.clear()
            left.difference_update(ended)
    finally:
        waiter.leave(left)
