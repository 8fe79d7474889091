"""`phalanx.get_reusable_executor()`: one executor that is kept between calls, so that its workers are too."""

from __future__ import annotations

import os
import threading
import weakref
from time import monotonic

from phalanx.concurrent.futures.process import ProcessPoolExecutor
from phalanx.multiprocessing._crew import processors
from phalanx.threading import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from phalanx.concurrent.futures.process import ProcessFuture
    from phalanx.multiprocessing._crew import Crew

__all__ = ["ReusableExecutor", "get_reusable_executor"]

_lock = threading.RLock()
_current: ReusableExecutor | None = None
_parents: list[ReusableExecutor] = []  # of the process that this one was forked from: not ours to end


class ReusableExecutor(ProcessPoolExecutor):
    """A `ProcessPoolExecutor` that lets its workers go when it has had nothing to do for `timeout` seconds.

    The next call starts new ones.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        context: Any = None,
        timeout: float | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        threads: int | None = None,
    ) -> None:
        super().__init__(max_workers, context, initializer, initargs)
        self._threads = threads
        self._timeout = timeout
        self._used = monotonic()
        self._over = Event()

    def _begin(self) -> Crew:
        self._used = monotonic()
        self._processes = {}
        crew = super()._begin()
        if self._timeout is not None:
            over = self._over
            args = (weakref.ref(self, lambda _: over.set()), crew, over, self._timeout)
            threading.Thread(target=_watch, args=args, name="phalanx-idle", daemon=True).start()
        return crew

    def _hand_in(self, job: Any) -> ProcessFuture:
        with self._shutdown_lock:  # the workers do not go meanwhile
            self._used = monotonic()
            return super()._hand_in(job)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls: see `ProcessPoolExecutor.shutdown`."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._over.set()

    def _rest(self, crew: Crew) -> float:
        """Let the workers go if the time is over. Seconds until the next look; 0: they have gone."""
        assert self._timeout is not None
        with self._shutdown_lock:
            if self._crew is not crew or crew.closing:
                return 0
            if crew.unfinished:
                self._used = monotonic()
            left = self._used + self._timeout - monotonic()
            if left <= 0:
                crew.close()
                self._crew = None
                return 0
            return left


def _watch(reference: Any, crew: Crew, over: Event, left: float) -> None:
    # An executor that nobody holds ends by itself.
    while (executor := reference()) is not None:
        left = executor._rest(crew)
        del executor
        if not left or over.wait(left):
            return


def get_reusable_executor(
    max_workers: int | None = None,
    context: Any = None,
    timeout: float | None = 10,
    kill_workers: bool = False,
    reuse: bool | str = "auto",
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
) -> ReusableExecutor:
    """Return the executor of the last call, if it has these parameters and works, else a new one.

    The one that it replaces does what was submitted to it; with `kill_workers` its workers are ended at once. Do not
    shut it down: it ends with the interpreter.

    max_workers: None for one per processor, or with `reuse=True` for as many as there are. context: a context of
    multiprocessing or the name of a start method. timeout: seconds without work after which the workers go; the next
    call starts new ones. reuse: True takes the executor of the last call whatever its other parameters, False always
    makes a new one. Any thread may call it; a child process has an executor of its own.
    """
    if reuse not in (True, False, "auto"):
        raise ValueError(f"reuse must be True, False or 'auto', not {reuse!r}")
    return _get(max_workers, context, timeout, kill_workers, reuse, initializer, tuple(initargs), None)


def _get(
    max_workers: int | None,
    context: Any,
    timeout: float | None,
    kill_workers: bool,
    reuse: bool | str,
    initializer: Any,
    initargs: tuple[Any, ...],
    threads: int | None,
) -> ReusableExecutor:
    global _current
    if timeout is not None and not timeout > 0:
        raise ValueError("timeout must be more than 0 seconds, or None")
    if context is None or isinstance(context, str):
        from phalanx.multiprocessing import get_context

        context = get_context(context)
    with _lock:
        old = _current
        if max_workers is None:
            max_workers = old._max_workers if old is not None and reuse is True else processors()
        wanted: tuple[Any, ...] = (context.get_start_method(), timeout, initializer, initargs, threads)
        if old is not None and reuse is not False and not old._broken and not old._shutdown_thread:
            had = (old._mp_context.get_start_method(), old._timeout, old._initializer, old._initargs, old._threads)
            if old._max_workers == max_workers and (reuse is True or had == wanted):
                return old
        new = ReusableExecutor(max_workers, context, timeout, initializer, initargs, threads)
        _current = new
    if old is not None:
        if kill_workers:
            old.kill_workers()
        else:
            old.shutdown(wait=False)
    return new


def _in_child() -> None:
    global _current, _lock
    _lock = threading.RLock()
    if _current is not None:
        _parents.append(_current)
        _current = None


os.register_at_fork(after_in_child=_in_child)
