"""`multiprocessing.pool`: use it like the standard module, whose names are all here.

What is different: a worker that dies costs the one task in its hands (`phalanx.WorkerDied`) and is replaced; an
exception that cannot be pickled is a `phalanx.RemoteError`; what pickle refuses goes by value, through cloudpickle;
`imap` pulls a bounded number of items ahead; chunks follow the time that items take; `terminate()` ends the waits for
results. `options()` gives tasks a time limit, retries, a seed and more.
"""

from __future__ import annotations

import multiprocessing.pool as _std_pool
import warnings
from concurrent.futures import CancelledError
from functools import partial
from multiprocessing import util
from operator import index

from phalanx.multiprocessing import _worker
from phalanx.multiprocessing._crew import Crew, processors
from phalanx.multiprocessing._options import PLAIN, Options
from phalanx.multiprocessing._results import AsyncResult, Call, IMapIterator, IMapUnorderedIterator, MapResult
from phalanx.multiprocessing._thread_crew import ThreadCrew
from phalanx.multiprocessing._travel import goes_by_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Self

__all__ = ["Pool", "ThreadPool"]

_std: Any = _std_pool
# The original class, also when `install()` has put ours in its place. Programs ask `isinstance(pool, Pool)`.
_StdPool: Any = _std.Pool

CLOSE = _std.CLOSE
INIT = _std.INIT
RUN = _std.RUN
TERMINATE = _std.TERMINATE
ExceptionWithTraceback = _std.ExceptionWithTraceback
MaybeEncodingError = _std.MaybeEncodingError
RemoteTraceback = _std.RemoteTraceback
mapstar = _std.mapstar
starmapstar = _std.starmapstar
rebuild_exc = _std.rebuild_exc
ApplyResult = AsyncResult


class _Verbs:
    """What a pool and its views do."""

    _crew: Crew
    _given: Options

    def _whole(self) -> Pool:
        raise NotImplementedError

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> Any:
        """Call `func(*args, **kwds)` in a worker and return its result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> AsyncResult:
        """Begin `func(*args, **kwds)` and return its `AsyncResult`.

        Callbacks run in the pool's own thread.
        """
        pool = self._whole()
        pool._check_running()
        result = AsyncResult(pool, callback, error_callback)
        job = Call(result, self._given.bind(func), tuple(args), kwds or None)
        job._alone = bool(kwds) or self._given is not PLAIN
        result._job = job
        pool._crew.submit(self._given.apply(job))
        return result

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """Call `func` with each item and return the results in order.

        chunksize: items in one task; without it chunks follow the time that items take.
        """
        return self._map(func, iterable, _worker.MAP, chunksize).get()  # type: ignore[no-any-return]

    def starmap(self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None) -> Any:
        """As `map`, with each item as the arguments of a call."""
        return self._map(func, iterable, _worker.STARMAP, chunksize).get()

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> MapResult:
        """Begin a `map` and return its `AsyncResult`."""
        return self._map(func, iterable, _worker.MAP, chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> MapResult:
        """Begin a `starmap` and return its `AsyncResult`."""
        return self._map(func, iterable, _worker.STARMAP, chunksize, callback, error_callback)

    def _map(
        self,
        func: Any,
        iterable: Iterable[Any],
        mode: int,
        chunksize: int | None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> MapResult:
        pool = self._whole()
        pool._check_running()
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        func = self._given.bind(func)
        return MapResult(pool, func, list(iterable), mode, chunksize, self._given, callback, error_callback)

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """Return an iterator over the results of `func` for each item, in order.

        A bounded number of items is pulled ahead.
        """
        return self._imap(IMapIterator, func, iterable, chunksize)

    def imap_unordered(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """As `imap`, with the results in the order in which they come."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize)

    def _imap(self, kind: type[IMapIterator], func: Any, iterable: Iterable[Any], chunksize: int) -> IMapIterator:
        pool = self._whole()
        pool._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        return kind(pool, self._given.bind(func), iterable, chunksize, self._given)


class Pool(_Verbs, _StdPool):  # type: ignore[misc]
    """A pool of worker processes. See `multiprocessing.pool.Pool`.

    A worker that dies costs the task in its hands, whose caller gets `phalanx.WorkerDied`, and is replaced.
    """

    _wrap_exception = True
    _has_processes = True

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Make the process of a worker."""
        return ctx.Process(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        self._state = INIT
        self._given = PLAIN
        if context is None:
            from phalanx.multiprocessing import get_context

            context = get_context()
        self._ctx = context
        self._processes = processes = _size(processes, initializer)
        if maxtasksperchild is not None and (type(maxtasksperchild) is not int or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        crew = self._crew = Crew(
            partial(_start_worker, context, self.Process),
            processes,
            style=_worker.POOL,
            initializer=initializer,
            initargs=tuple(initargs),
            max_tasks=maxtasksperchild,
            reports=context.SimpleQueue(),
            by_value=goes_by_value(context.get_start_method()),
        )
        self._pool = crew.workers
        try:
            crew.fill()
            crew.tend("phalanx-pool", daemon=True)
        except BaseException:
            crew.terminate()
            raise
        self._terminate = util.Finalize(self, _terminate_crew, args=(crew,), kwargs={"join": True}, exitpriority=15)
        self._state = RUN

    def __del__(self, _warn: Any = warnings.warn, RUN: Any = RUN) -> None:
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = self.__class__
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _whole(self) -> Pool:
        return self

    def _check_running(self) -> None:
        broken = self._crew.broken
        if broken is not None:
            raise broken
        if self._state != RUN:
            raise ValueError("Pool not running")

    def _repopulate_pool(self) -> None:
        if not self._crew.terminated:
            self._crew.fill()

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
    ) -> PoolView:
        """Return a view of this pool whose tasks have these options; every verb works on it.

        A chunk of a map is one task.

        - timeout: seconds that a task may take, and chunks have one item; then its worker is ended and replaced, and
          the caller gets TimeoutError. A thread goes on, and only its result is dropped.
        - retries: how often a task is run again in another worker if its worker dies.
        - memory: bytes of data that a worker may have while it runs the task; beyond, MemoryError is raised in it. A
          ValueError for threads.
        - seed: seeds `random`, and `numpy.random` where NumPy is installed, for each item by its number, so results do
          not depend on the workers. A ValueError for threads.
        - progress: show how many items of a map have ended, by tqdm if it is installed.
        - on_progress: called with the number of items that have ended, and of all of them or None.
        - shared: an object that goes once to each worker, as it is now, and is the first argument of every call. It
          stays there until the pool ends. Threads get the object itself.
        """
        given = Options(timeout, retries, memory, seed, progress, on_progress)
        if not self._has_processes:
            given.for_threads()
        if shared is not None:
            self._check_running()
            given.share(self._crew.share(shared), shared)
        return PoolView(self, given)

    def statistics(self) -> list[dict[str, Any]]:
        """What the workers have done so far, a dict for each seat of the pool.

        `worker` and `pid` are of the process that sits there now, `restarts` how many sat there before. Of all of them:
        `tasks`, `busy` and `waiting` in seconds, `bytes` of tasks and results. Of a `ThreadPool`: for each thread.
        """
        return self._crew.statistics()

    def close(self) -> None:
        """Take no more tasks. Workers end when all are done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._crew.close()

    def terminate(self) -> None:
        """End the workers now. Whoever waits for a result gets CancelledError."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Wait for the workers to end, after `close()` or `terminate()`."""
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._crew.join()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.terminate()


class ThreadPool(Pool):
    """A pool of threads with the verbs of `Pool`. See `multiprocessing.pool.ThreadPool`."""

    _wrap_exception = False
    _has_processes = False

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        self._state = INIT
        self._given = PLAIN
        self._processes = processes = _size(processes, initializer)
        crew: Any = ThreadCrew(processes, initializer, tuple(initargs), "ThreadPool")
        self._crew = crew
        self._pool = crew.workers
        self._terminate = util.Finalize(self, _terminate_crew, args=(crew,), kwargs={"join": False}, exitpriority=15)
        self._state = RUN


class PoolView(_Verbs):
    """A pool with options: see `Pool.options`."""

    def __init__(self, pool: Pool, given: Options) -> None:
        self._pool = pool
        self._given = given

    def _whole(self) -> Pool:
        return self._pool


def _size(processes: int | None, initializer: object) -> int:
    """How many workers are wanted, once that and the initializer have been checked."""
    if processes is None:
        processes = processors()
    processes = index(processes)
    if processes < 1:
        raise ValueError("Number of processes must be at least 1")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    return processes


def _start_worker(context: Any, make: Any, target: Any, args: Any) -> Any:
    worker = make(context, target=target, args=args)
    worker.name = worker.name.replace("Process", "PoolWorker")
    worker.daemon = True
    worker._is_worker = True
    worker.start()
    return worker


def _terminate_crew(crew: Any, *, join: bool) -> None:
    crew.terminate(CancelledError("the pool was terminated before this task had ended"))
    if join:
        crew.join()
