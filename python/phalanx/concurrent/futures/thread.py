"""`ThreadPoolExecutor`: the standard one's behaviour over a work queue and a worker loop in Rust."""

from __future__ import annotations

import concurrent.futures.thread as _std
import threading
import weakref
from collections import deque
from functools import partial
from itertools import count, islice
from operator import attrgetter
from os import cpu_count
from time import monotonic

from phalanx import _core
from phalanx import threading as _threading
from phalanx.concurrent.futures._base import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from phalanx.concurrent.futures._thread_view import ThreadExecutorView

BrokenThreadPool = _std.BrokenThreadPool
# The original class, also when `install()` has put ours in its place.
_StdExecutor: Any = _std.ThreadPoolExecutor
_private: Any = _std
_queues: weakref.WeakSet[Any] = weakref.WeakSet()


def _at_exit() -> None:
    # `submit` in Rust asks nobody whether the interpreter ends. The standard library, which comes after us here, then
    # ends the workers, but it knows only pools that have some.
    for queue in list(_queues):
        queue._refuse()


_register: Any = threading
_register._register_atexit(_at_exit)


def _worker(reference: Any, queue: Any, initializer: Any, initargs: tuple[Any, ...]) -> None:
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException:
            _std._base.LOGGER.critical("Exception in initializer:", exc_info=True)  # type: ignore[attr-defined]
            executor = reference()
            if executor is not None:
                executor._initializer_failed()
            return
    try:
        queue._work()
    except BaseException:
        _std._base.LOGGER.critical("Exception in worker", exc_info=True)  # type: ignore[attr-defined]
    executor = reference()
    if executor is not None:
        executor._shutdown = True


class ThreadPoolExecutor(_core.ExecutorBase, _StdExecutor):  # type: ignore[misc]
    """Makes calls in a pool of at most `max_workers` threads, started when there is work for them.

    `max_workers`: default `min(32, processors + 4)`; below 1 raises ValueError. `thread_name_prefix` names the
    threads. `initializer(*initargs)` runs first in each of them; if it raises, the pool is broken: every call that
    waits and every later `submit` raises BrokenThreadPool.

    - `submit(fn, *args, **kwargs)` queues a call and returns its `Future`.
    - `map(fn, *iterables, timeout=None, chunksize=1, buffersize=None)` yields the results in the arguments' order.
    - `shutdown(wait=True, *, cancel_futures=False)` ends it, and so does the end of a `with` block.
    """

    __module__ = "concurrent.futures.thread"
    _counter = count().__next__

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if max_workers is None:
            max_workers = min(32, (_processors() or 1) + 4)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._max_workers = max_workers
        self._work_queue = _core.WorkQueue(max_workers)
        self._threads: set[threading.Thread] = set()
        self._broken: str | bool = False
        self._shutdown = False
        self._shutdown_lock = _threading.Lock()
        self._thread_name_prefix = thread_name_prefix or f"ThreadPoolExecutor-{type(self)._counter()}"
        self._initializer = initializer
        self._initargs = initargs
        self._use(self._work_queue)
        _queues.add(self._work_queue)

    def _refuse(self) -> None:
        """Says why `submit` takes no call now."""
        if self._broken:
            raise BrokenThreadPool(self._broken)
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def _adjust_thread_count(self) -> None:
        """Starts one more worker if there may be one more; called by `submit` when no worker is idle."""
        with self._shutdown_lock:
            if len(self._threads) < self._max_workers and not self._shutdown:
                self._start_worker()

    def _start_worker(self) -> None:
        queue = self._work_queue
        # The end of the executor ends its workers.
        reference = weakref.ref(self, partial(_let_go, queue))
        thread = threading.Thread(
            name=f"{self._thread_name_prefix}_{len(self._threads)}",
            target=_worker,
            args=(reference, queue, self._initializer, self._initargs),
        )
        thread.start()
        queue._started()
        self._threads.add(thread)
        # At exit the standard library puts None into each of these queues and joins the threads.
        _private._threads_queues[thread] = queue

    def _initializer_failed(self) -> None:
        with self._shutdown_lock:
            self._broken = "A thread initializer failed, the thread pool is not usable anymore"
            self._work_queue.put(None)
            for future in self._work_queue._drain():
                if future.set_running_or_notify_cancel():
                    future.set_exception(BrokenThreadPool(self._broken))

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Call `fn` with the items of the iterables taken together; yield the results in the arguments' order.

        `timeout`: seconds from this call until the last result is there; then TimeoutError is raised. `chunksize` is
        for process pools and changes nothing here. `buffersize`: how many calls are queued ahead of the consumer, None
        for all at once; below 1 raises ValueError, anything but an int TypeError. An exception of a call is raised
        when its turn comes; calls that have not begun are cancelled then.
        """
        return self._map(attrgetter("submit"), fn, iterables, timeout, buffersize)

    def _map(
        self,
        submit_of: Callable[[Any], Callable[..., Any]],
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        buffersize: int | None,
    ) -> Iterator[Any]:
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else monotonic() + timeout
        submit = submit_of(self)
        arguments: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        first = arguments if buffersize is None else islice(arguments, buffersize)
        futures = deque([submit(fn, *args) for args in first])
        return _results(weakref.ref(self), submit_of, fn, futures, arguments if buffersize else None, end)

    def options(
        self,
        *,
        timeout: float | None = None,
        retries: int = 0,
        memory: int | None = None,
        seed: int | None = None,
        progress: bool = False,
        on_progress: Callable[[int, int | None], object] | None = None,
        shared: Any = None,
    ) -> ThreadExecutorView:
        """Return a view of this executor whose calls have these options; `submit` and `map` work on it.

        - timeout: seconds that a call may take; then its future has a TimeoutError. Its thread goes on.
        - retries: of no effect, since threads do not die.
        - progress, on_progress: of a map, as for `phalanx.multiprocessing.Pool.options`.
        - shared: an object that is the first argument of every call.

        memory and seed are for processes: ValueError.
        """
        # Not at the top: programs without options need nothing of processes.
        from phalanx.concurrent.futures._thread_view import ThreadExecutorView
        from phalanx.multiprocessing._options import Options

        given = Options(timeout, retries, memory, seed, progress, on_progress)
        given.for_threads()
        if shared is not None:
            given.share(0, shared)
        return ThreadExecutorView(self, given)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no further calls; let the workers go when nothing is left to do. Harmless when repeated.

        `wait`: return only when they have gone. `cancel_futures`: cancel the calls that no worker has begun.
        """
        with self._shutdown_lock:
            self._shutdown = True
            # Closed first: what was taken before is all there will be.
            self._work_queue.put(None)
            if cancel_futures:
                for future in self._work_queue._drain():
                    # No worker will come to say so to those who wait for it in `wait()` or `as_completed()`.
                    if future.cancel():
                        future.set_running_or_notify_cancel()
            elif not self._threads and not self._work_queue.empty():
                # Taken by a `submit` that has not come to start a worker yet, and now will not.
                self._start_worker()
        if wait:
            for thread in self._threads:
                thread.join()


def _let_go(queue: Any, _reference: Any) -> None:
    queue.put(None)


def _processors() -> int | None:
    try:
        from os import process_cpu_count  # type: ignore[attr-defined]
    except ImportError:
        return cpu_count()
    number: int | None = process_cpu_count()
    return number


def _results(
    reference: Any,
    submit_of: Callable[[Any], Callable[..., Any]],
    fn: Callable[..., Any],
    futures: deque[Any],
    more: Iterator[tuple[Any, ...]] | None,
    end: float | None,
) -> Iterator[Any]:
    try:
        while futures:
            if more is not None and (executor := reference()) is not None and (args := next(more, None)) is not None:
                futures.append(submit_of(executor)(fn, *args))
            # The future is forgotten before its result is handed out, so that the result lives no longer than needed.
            yield _take(futures.popleft(), end)
    finally:
        for future in futures:
            future.cancel()


def _take(future: Future, end: float | None) -> Any:
    try:
        return future.result(None if end is None else end - monotonic())
    except BaseException:
        # Of no effect if it is the call itself that raised.
        future.cancel()
        raise
    finally:
        # A traceback that is kept must not keep the future.
        del future
