"""One task of a pool, as its master sees it."""

from __future__ import annotations

import sys
import threading

from phalanx.multiprocessing import _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _T = TypeVar("_T")

__all__ = ["Job", "in_main_thread", "show", "surely"]


class Job:
    """One task from its submission to its end. A subclass says what becomes of the result.

    Many are made, and few need more than a function and arguments: what is rare has its default here. What all need is
    set at once, so that the attributes of all instances lie in one compact shape.
    """

    _alone = True
    """It may not share a bundle with others that call the same function."""
    _by_value = False
    _given: dict[str, int] | None = None
    """What its worker has to know of its options."""
    _limit: float | None = None
    """Seconds."""
    _began = 0.0
    """When it was first seen in a worker's hands, if it has a limit."""
    _tries = 0
    """How often it may still be run again."""
    _doom: BaseException | None = None
    """What its caller gets, now that its worker is being ended."""
    _refused: Any = None
    """The failure over which it was sent once more."""
    _told: int = 0
    """So many of its results have been told."""
    _missed = False
    """It has failed, and that was told."""
    _faults = 0
    """How often telling its end has failed."""

    def __init__(self, mode: int, function: Any, first: Any, second: Any = None) -> None:
        self._mode = mode
        self._function = function
        self._first = first
        self._second = second
        self._slot: int | None = None  # None: not posted, or in a bundle; on the board; -1: it was there
        self._bundle: Any = None  # the one in which it travels
        self._at = 0  # its place there
        self._waits = False  # in the backlog
        self._ended = False

    @property
    def _task(self) -> tuple[Any, ...]:
        """What goes to a worker: see `_worker`."""
        task = (self._mode, self._function, self._first, self._second)
        return task if self._given is None else (*task, self._given)

    @property
    def _is_stale(self) -> bool:
        """In the backlog: it need not be posted any more."""
        bundle = self._bundle
        return self._ended or self._slot is not None or (bundle is not None and bundle._slot is not None)

    def _end(self) -> None:
        """Nothing more is to be done for it."""
        self._bundle = self._first = self._second = None
        self._ended = True

    # The ends of a job may be told again where a signal has interrupted that: what was told is not told twice.

    def _succeed(self, value: Any) -> bool:
        """The task has returned `value`. Runs in whatever thread has collected it. False: the tender has to do it."""
        raise NotImplementedError

    def _fail(self, error: BaseException, remote: str | None) -> bool:
        """The task has failed; `remote` is the worker's traceback if it raised there. False: as in `_succeed`."""
        raise NotImplementedError

    def _describe(self) -> str:
        """The call, in words."""
        return "a task" if self._ended else _worker.describe(self._task, self._function)


def in_main_thread() -> bool:
    """Say whether this is the thread in which signal handlers run, and may raise."""
    return threading.current_thread() is threading.main_thread()


def surely(deed: Callable[..., _T], *args: Any) -> tuple[_T | None, BaseException | None, BaseException | None]:
    """What `deed(*args)` returns, what it raises, and what a signal handler has raised meanwhile.

    In the thread in which those run it is tried twice: what is raised twice is its own. What this raises itself is a
    signal handler's.
    """
    try:
        return deed(*args), None, None
    except BaseException as error:
        first = error
    if not in_main_thread():
        return None, first, None
    try:
        return deed(*args), None, first
    except BaseException as error:
        return None, error, None


def show() -> None:
    """Print what a callback of the program has raised in a thread of ours, as for any thread."""
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
