"""`ThreadPoolExecutor.options(...)`: the same executor, with options for its calls."""

from __future__ import annotations

import threading
from concurrent.futures import InvalidStateError
from contextlib import suppress

from phalanx.concurrent.futures._base import Future
from phalanx.multiprocessing import _worker
from phalanx.multiprocessing._job import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from phalanx.concurrent.futures.thread import ThreadPoolExecutor
    from phalanx.multiprocessing._options import Options

__all__ = ["ThreadExecutorView"]


class ThreadExecutorView:
    """An executor with options: see `ThreadPoolExecutor.options`."""

    def __init__(self, executor: ThreadPoolExecutor, given: Options) -> None:
        self._executor = executor
        self._given = given

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """See `ThreadPoolExecutor.submit`."""
        limit = self._given.timeout
        if limit is None:
            plain: Any = self._executor.submit(self._given.bind(fn), *args, **kwargs)
            return plain  # type: ignore[no-any-return]
        what = _worker.describe((_worker.CALL, fn, args, kwargs), fn)
        outer = Future()
        inner: Any = self._executor.submit(_call, outer, limit, what, self._given.bind(fn), args, kwargs)

        def dropped(inner: Future) -> None:
            # No thread has begun it: cancelled at shutdown, or no thread could begin.
            if inner.cancelled():
                if outer.cancel():
                    outer.set_running_or_notify_cancel()
            elif inner.exception() is not None:
                _end(outer, inner.exception(), failed=True)

        inner.add_done_callback(dropped)
        return outer

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """See `ThreadPoolExecutor.map`."""
        given, progress = self._given, _Progress()

        def submit_of(executor: ThreadPoolExecutor) -> Callable[..., Future]:
            view = ThreadExecutorView(executor, given)
            return lambda *call: progress.follow(view.submit(*call))

        results = self._executor._map(submit_of, fn, iterables, timeout, buffersize)
        progress.begin(given, fn, buffersize is None)
        return results


class _Progress:
    """Counts the calls of a map that have ended."""

    def __init__(self) -> None:
        self._futures: list[Future] = []  # until it begins
        self._guard = threading.Lock()
        self._ended = 0
        self._note: Callable[[int], None] | None = None
        self._begun = False

    def follow(self, future: Future) -> Future:
        """Count this one."""
        if not self._begun:
            self._futures.append(future)
        elif self._note is not None:
            future.add_done_callback(self._count)
        return future

    def begin(self, given: Options, fn: Any, complete: bool) -> None:
        """Tell from now on; `complete`: no more calls will come."""
        futures, self._futures = self._futures, []
        self._note = given.begin(len(futures) if complete else None, _worker.name_of(fn))
        self._begun = True
        for future in futures:
            self.follow(future)

    def _count(self, _: Any) -> None:
        with self._guard:
            self._ended += 1
            ended = self._ended
        if self._note is not None:  # without the guard: it may end other calls
            try:
                self._note(ended)
            except BaseException:  # the program's own: this thread is for other calls too
                self._note = None
                show()


def _end(future: Future, value: Any, *, failed: bool) -> None:
    with suppress(InvalidStateError):  # the other way to end was faster
        (future.set_exception if failed else future.set_result)(value)


def _call(outer: Future, limit: float, what: str, fn: Any, args: Any, kwargs: Any) -> None:
    """One call in its thread, whose caller waits for `limit` seconds at the most."""
    from phalanx._pool_errors import TaskTimeout

    if not outer.set_running_or_notify_cancel():
        return
    late = TaskTimeout(f"{what} took longer than {limit:g} s; its thread goes on")
    timer = threading.Timer(min(limit, threading.TIMEOUT_MAX), _end, (outer, late), {"failed": True})
    timer.daemon = True
    timer.start()
    try:
        value, failed = fn(*args, **kwargs), False
    except BaseException as error:
        value, failed = error, True
    timer.cancel()
    _end(outer, value, failed=failed)
    del value  # whose traceback holds this frame, if it was raised
