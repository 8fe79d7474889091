"""`ProcessPoolExecutor`: the standard one's signatures over the crew that pools use.

What is different from the standard library: a worker that dies costs the one task in its hands (`phalanx.WorkerDied`,
which is a `BrokenProcessPool` too) and is replaced; the executor goes on. What pickle refuses goes by value, through
cloudpickle.
"""

from __future__ import annotations

import concurrent.futures.process as _std_process
import os
import threading
import weakref
from collections import deque
from concurrent.futures import CancelledError, InvalidStateError
from functools import partial
from itertools import count, islice
from multiprocessing import util
from operator import index
from time import monotonic

from phalanx.concurrent.futures._base import Future
from phalanx.multiprocessing import _worker
from phalanx.multiprocessing._crew import Crew, cancel, processors
from phalanx.multiprocessing._job import Job, in_main_thread, show
from phalanx.multiprocessing._options import PLAIN, Options
from phalanx.multiprocessing._shared import Unshareable
from phalanx.multiprocessing._travel import caused_by, goes_by_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor"]

_std: Any = _std_process
# The original class, also when `install()` has put ours in its place.
_StdExecutor: Any = _std.ProcessPoolExecutor
BrokenProcessPool = _std.BrokenProcessPool
_RemoteTraceback = _std._RemoteTraceback

_executors: weakref.WeakSet[ProcessPoolExecutor] = weakref.WeakSet()
_crews: weakref.WeakSet[Crew] = weakref.WeakSet()
_names = count()
_maps: set[_Map] = set()  # with inputs that have not been pulled to their ends
_ending = False

_AHEAD = 4  # tasks of a map that are submitted before their results are asked for, for each worker
_AHEAD_LEAST = 128


def _at_exit() -> None:
    global _ending
    for one in list(_maps):
        one.submit_all()
    _ending = True
    crews = list(_crews)
    for crew in crews:
        crew.shut()
        crew.close()
    for crew in crews:
        crew.join()


def _in_child() -> None:
    # Executors of the parent are not ours to end, nor their maps to do.
    global _crews, _maps
    _crews, _maps = weakref.WeakSet(), set()
    for executor in _executors:
        executor._shutdown_lock = threading.RLock()  # its owner may be a thread that is not here


_register: Any = threading
_register._register_atexit(_at_exit)
os.register_at_fork(after_in_child=_in_child)


class _Cancelled(CancelledError):
    """A call was cancelled here. What a call has raised itself is its failure, whatever it is."""


class ProcessFuture(Job, Future):
    """A `Future` of a process pool. `cancel(running=True)` ends a call that has begun, with its worker.

    It is its own job: one object for each call, where thousands may wait.
    """

    __module__ = "concurrent.futures._base"

    _crew: Crew
    _alone = False

    def _succeed(self, value: Any) -> bool:
        self._function = None  # whoever keeps results need not keep that
        return self._end_alone(value, False) or self._end_shared(value, self.set_result)

    def _fail(self, error: BaseException, remote: str | None) -> bool:
        self._function = None
        if isinstance(error, _Cancelled):
            if super().cancel():
                self._tell_cancelled()
            return True
        if remote:
            caused_by(error, _RemoteTraceback(f'\n"""\n{remote}"""'))
        return self._end_alone(error, True) or self._end_shared(error, self.set_exception)

    def _end_shared(self, value: Any, end: Callable[[Any], None]) -> bool:
        """Others wait for it, or have given callbacks: not in a thread where a signal may interrupt that."""
        if self.done() and self._state != "CANCELLED":
            return True
        if in_main_thread() and self._crew.tender.thread is not None and not self._crew.over:
            return False
        try:
            end(value)
        except InvalidStateError:
            self._tell_cancelled()
        except BaseException:  # raised by a callback of the program: this thread is for the other calls too
            show()
        return True

    def _tell_cancelled(self) -> None:
        # Cancelled meanwhile, or ended by the program itself, and then there is nobody to tell.
        # Whoever cancels and whoever reads the log may both come here.
        with self._condition:
            if self._state == "CANCELLED":
                self.set_running_or_notify_cancel()

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have `fn(future)` called when the call ends, in the thread of the pool; at once if it has ended."""
        self._crew.call_back()
        super().add_done_callback(fn)

    def _invoke_callbacks(self) -> None:
        self._crew.tell()  # of others that have ended: a callback may wait for those who wait for them
        super()._invoke_callbacks()

    def result(self, timeout: float | None = None) -> Any:
        """Return what the call returned or raise what it raised; TimeoutError after `timeout` seconds."""
        if not self._ended and not self.done() and not self._crew.wait_for(self.done, timeout):
            timeout = 0
        try:
            return super().result(timeout)
        finally:
            del self  # the traceback of what the call raised has this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None; TimeoutError after `timeout` seconds."""
        if not self._ended and not self.done() and not self._crew.wait_for(self.done, timeout):
            timeout = 0
        return super().exception(timeout)

    def running(self) -> bool:
        """Say whether it is in a worker's hands."""
        return bool(super().running()) or (not self._ended and self._crew.is_running(self))

    def cancel(self, running: bool = False) -> bool:
        """Prevent a call that no worker has begun; with `running`, end the worker that has.

        Return whether it is cancelled.
        """
        if self._ended:
            return bool(super().cancel())
        if cancel(self._crew, self, _Cancelled(), running) and not self.done():
            self._crew.wait_for(self.done, 2.0)
        return self.cancelled()


class _NoQueue:
    """What programs find as `_call_queue`: there is no queue, and no thread that feeds it."""

    def close(self) -> None:
        """Nothing is to be closed."""

    def join_thread(self) -> None:
        """There is no thread to wait for."""


class ProcessPoolExecutor(_StdExecutor):  # type: ignore[misc]
    """A pool of worker processes. See `concurrent.futures.ProcessPoolExecutor`.

    A worker that dies costs the task in its hands, whose future gets `phalanx.WorkerDied`, and is replaced.
    """

    __module__ = "concurrent.futures.process"

    _threads: int | None = None  # of BLAS in each worker; None: cores / workers

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        # The standard constructor makes queues that nobody would use.
        _std._check_system_limits()
        if max_workers is None:
            max_workers = processors()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if mp_context is None:
            from phalanx.multiprocessing import get_context

            mp_context = get_context("spawn") if max_tasks_per_child is not None else get_context()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        forks = mp_context.get_start_method(allow_none=False) == "fork"
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if forks:
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method;"
                    " supply a different mp_context."
                )
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._safe_to_dynamically_spawn_children = not forks
        self._shutdown_lock = threading.RLock()
        _executors.add(self)
        self._shutdown_thread = False
        self._executor_manager_thread: Any = None
        self._processes: Any = {}
        self._call_queue = _NoQueue()
        self._crew: Crew | None = None
        self._shared: dict[int, Any] = {}  # what `options()` was given, for each crew of this executor

    @property
    def _broken(self) -> Any:
        crew = self._crew
        return str(crew.broken) if crew is not None and crew.broken is not None else False

    def _begin(self) -> Crew:
        crew = Crew(
            partial(_start_worker, self._mp_context, self._processes),
            self._max_workers,
            style=_worker.EXECUTOR,
            initializer=self._initializer,
            initargs=tuple(self._initargs),
            max_tasks=self._max_tasks_per_child,
            reports=self._mp_context.SimpleQueue(),
            lazy=self._safe_to_dynamically_spawn_children,
            forget=partial(_forget_worker, self._processes),
            by_value=_by_value(self._mp_context),
            threads=self._threads,
        )
        for number, thing in self._shared.items():
            try:
                crew.share(thing, number)
            except Exception as error:  # it could be pickled once; who asks for it is told
                crew.share(Unshareable(f"{type(error).__name__}: {error}"), number)
        # First: a forked worker that submits to this executor finds the crew that it belongs to.
        self._crew = crew
        try:
            if not self._safe_to_dynamically_spawn_children:
                crew.fill()
            crew.tend(f"phalanx-executor-{next(_names)}", daemon=False)
        except BaseException as error:  # the next call tries again
            self._crew = None
            crew.terminate(BrokenProcessPool(f"the workers could not be started: {type(error).__name__}: {error}"))
            self._processes.clear()
            raise
        self._executor_manager_thread = crew.tender.thread
        _crews.add(crew)
        # A child of multiprocessing waits for its children before the hooks of `threading` run.
        util.Finalize(crew, _close, args=(weakref.ref(crew),), exitpriority=20)
        # An executor that nobody holds any more takes no more calls; those that wait are done.
        weakref.finalize(self, _close, weakref.ref(crew)).atexit = False
        return crew

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ProcessFuture:
        """Have `fn(*args, **kwargs)` called in a worker and return its future.

        Raises RuntimeError after shutdown() or while the interpreter ends, BrokenProcessPool if no worker can begin.
        """
        future = ProcessFuture(_worker.CALL, fn, args, kwargs or None)
        if kwargs:
            future._alone = True
        return self._hand_in(future)

    def _ready(self) -> Crew:
        """The crew, if it takes calls."""
        with self._shutdown_lock:
            crew = self._crew
            if crew is not None and crew.broken is not None:
                raise BrokenProcessPool(str(crew.broken)) from crew.broken
            if self._shutdown_thread:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if _ending:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            return self._begin() if crew is None else crew

    def _submit(self, given: Options, at: int | None, mode: int, fn: Any, first: Any, second: Any) -> ProcessFuture:
        future = ProcessFuture(mode, given.bind(fn), first, second)
        future._alone = given is not PLAIN or mode != _worker.CALL
        given.apply(future, at)
        return self._hand_in(future)

    def _hand_in(self, future: ProcessFuture) -> ProcessFuture:
        crew = self._crew
        if crew is None or crew.is_shut:
            crew = self._ready()
        future._crew = crew
        crew.submit(future)
        if self._safe_to_dynamically_spawn_children:
            crew.grow(future)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Return an iterator over `fn(*items)` for the items of each position, in order.

        timeout: seconds from now until the last result. chunksize: calls in one task. buffersize: submit only so many
        tasks before the first result is asked for; None submits a bounded number, and the rest at shutdown().
        """
        return self._map(PLAIN, fn, iterables, timeout, chunksize, buffersize)

    def _map(
        self,
        given: Options,
        fn: Any,
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int,
        buffersize: int | None,
    ) -> Iterator[Any]:
        chunksize = index(chunksize)
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if given.timeout is not None:  # which is for each item
            chunksize = 1
        one = _Map(self, given, fn, iterables, timeout, chunksize, buffersize)
        results = one.results()
        if one.more and buffersize is None:
            # Nobody will ask for results that were thrown away: then it is all submitted, as the standard one's.
            weakref.finalize(results, one.submit_unused).atexit = False
        return results

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
    ) -> ExecutorView:
        """Return a view of this executor whose calls have these options: see `Pool.options`."""
        given = Options(timeout, retries, memory, seed, progress, on_progress)
        if shared is not None:
            with self._shutdown_lock:
                number = self._ready().share(shared)
                self._shared[number] = shared
            given.share(number, shared)
        return ExecutorView(self, given)

    def statistics(self) -> list[dict[str, Any]]:
        """What the workers have done so far: see `phalanx.multiprocessing.pool.Pool.statistics`."""
        return [] if self._crew is None else self._crew.statistics()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with `wait`, return when all are done.

        cancel_futures: cancel those that have not begun.
        """
        for one in list(_maps):
            if one.executor is self:
                one.drop() if cancel_futures else one.submit_all()
        with self._shutdown_lock:
            self._shutdown_thread = True
            crew = self._crew
            if crew is not None:
                crew.shut()
        if crew is not None:
            if cancel_futures:
                for job in crew.waiting():
                    cancel(crew, job, _Cancelled())
            crew.close()
            if wait:
                crew.join()
        self._executor_manager_thread = None
        self._processes = None

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        if isinstance(exc_val, KeyboardInterrupt):
            # Ctrl-C in a terminal is for the workers too: nobody finishes what they had begun.
            self.terminate_workers()
        self.shutdown()

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object: its workers belong to this process")

    def terminate_workers(self) -> None:
        """End the workers by SIGTERM. Whoever waits for a call gets BrokenProcessPool."""
        self._force(kill=False)

    def kill_workers(self) -> None:
        """End the workers by SIGKILL. Whoever waits for a call gets BrokenProcessPool."""
        self._force(kill=True)

    def _force(self, *, kill: bool) -> None:
        crew = self._crew
        if crew is not None and not crew.over:
            workers = list(crew.workers)
            crew.terminate(BrokenProcessPool("the workers were ended before this call had"))
            for worker in workers if kill else ():
                worker.kill()
        self.shutdown(wait=False, cancel_futures=True)


class ExecutorView:
    """An executor with options: see `ProcessPoolExecutor.options`."""

    def __init__(self, executor: ProcessPoolExecutor, given: Options) -> None:
        self._executor = executor
        self._given = given

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ProcessFuture:
        """See `ProcessPoolExecutor.submit`."""
        return self._executor._submit(self._given, None, _worker.CALL, fn, args, kwargs or None)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """See `ProcessPoolExecutor.map`."""
        return self._executor._map(self._given, fn, iterables, timeout, chunksize, buffersize)


class _Map:
    """The calls of one map: so many are submitted ahead of the results that were asked for."""

    def __init__(
        self,
        executor: ProcessPoolExecutor,
        given: Options,
        fn: Any,
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int,
        buffersize: int | None,
    ) -> None:
        self.executor: ProcessPoolExecutor | None = executor
        self._end = None if timeout is None else timeout + monotonic()
        self._chunks = chunksize > 1
        self._guard = threading.RLock()
        self._counting = threading.Lock()
        self._asked = False  # for results
        self._futures: deque[Any] = deque()
        self._error: BaseException | None = None
        self._bounded = buffersize is not None
        rows = zip(*iterables)  # noqa: B905  as the standard library: the shortest decides
        parts = iter(lambda: tuple(islice(rows, chunksize)), ()) if self._chunks else rows
        mode = _worker.STARMAP if self._chunks else _worker.CALL
        self._calls: Iterator[Any] = (
            (executor._submit(given, at * chunksize, mode, fn, part, None), len(part) if self._chunks else 1)
            for at, part in enumerate(parts)
        )
        self.more = True
        self._items = 0  # submitted
        self._noted = 0  # ended
        self._note: Callable[[int], None] | None = None
        self._submit(buffersize or max(_AHEAD_LEAST, _AHEAD * executor._max_workers))
        self._note = given.begin(None if self.more else self._items, _worker.name_of(fn))
        if self._note is not None:
            left = self._items
            for future in list(self._futures):
                future.add_done_callback(partial(self._count, min(chunksize, left)))
                left -= chunksize
        if self.more and not self._bounded:
            _maps.add(self)

    def _submit(self, n: int) -> None:
        """Submit so many more calls, as far as there are any."""
        with self._guard:
            self._submit_some(n)

    def _submit_some(self, n: int) -> None:
        for _ in range(n):
            if not self.more:
                return
            call = next(self._calls, None)
            if call is None:
                self._close()
                return
            future, items = call
            self._futures.append(future)
            self._items += items
            if self._note is not None:
                future.add_done_callback(partial(self._count, items))

    def _count(self, items: int, _: Any) -> None:
        with self._counting:
            self._noted += items
            noted = self._noted
        if self._note is not None:  # without a lock: it may wait for whoever asks for the results
            try:
                self._note(noted)
            except BaseException:  # the program's own
                self._note = None
                show()

    def _close(self) -> None:
        self.more = False
        self._calls = iter(())
        self.executor = None  # which ends once nobody holds it
        _maps.discard(self)

    def submit_all(self) -> None:
        """Submit the rest: the executor takes no calls from now on, or nobody asks for the results."""
        with self._guard:
            try:
                while self.more:
                    self._submit(_AHEAD_LEAST)
            except BaseException as error:  # who asks for the results gets it after those that came before
                self._close()
                self._error = error
                if not isinstance(error, Exception):
                    raise

    def submit_unused(self) -> None:
        """Submit the rest if nobody has asked for a result, and nobody will."""
        if not self._asked:
            self.submit_all()

    def drop(self) -> None:
        """Submit nothing more."""
        with self._guard:
            self._close()

    def results(self) -> Iterator[Any]:
        """The results in order. What has not begun is cancelled when the iterator goes."""
        # No name here stands for a result while the caller has it: it goes as soon as the caller lets it go.
        self._asked = True
        try:
            while self._futures:
                if self._chunks:
                    values = self._next()[1]
                    values.reverse()
                    while values:
                        yield values.pop()
                else:
                    yield self._next()
            if self._error is not None:
                raise self._error
        finally:
            self.drop()
            for future in self._futures:
                future.cancel()

    def _next(self) -> Any:
        value = self._futures[0].result(None if self._end is None else self._end - monotonic())
        self._futures.popleft()
        try:
            self._submit(1)
        except Exception as error:  # after the results of what was pulled before
            self._close()
            self._error = error
        return value


def _by_value(context: Any) -> bool:
    return getattr(context, "_by_value", False) or goes_by_value(context.get_start_method())


def _close(reference: Any) -> None:
    crew = reference()
    if crew is not None:
        crew.close()


def _start_worker(context: Any, processes: dict[int, Any], target: Any, args: Any) -> Any:
    worker = context.Process(target=target, args=args)
    worker._is_worker = True
    worker.start()
    processes[worker.pid] = worker
    return worker


def _forget_worker(processes: dict[int, Any], worker: Any) -> None:
    processes.pop(worker.pid, None)
