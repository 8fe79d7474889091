"""One task of a pool, as its master sees it."""

from __future__ import annotations

import sys
import threading

from phalanx.multiprocessing import _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Forgiving", "Job", "show"]


class Job:
    """One task from its submission to its end. A subclass says what becomes of the result.

    Many are made, and few need more than a function and arguments: what is rare has its default here. What all need is
    set at once, so that the attributes of all instances lie in one compact shape.
    """

    is_bundle = False
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
    _interrupted = False
    """Its end was about to be told when something else was raised."""

    def __init__(self, mode: int, function: Any, first: Any, second: Any = None) -> None:
        self._mode = mode
        self._function = function
        self._first = first
        self._second = second
        self._slot: int | None = None  # on the board; None while it waits or travels in a bundle, or once it has ended
        self._bundle: Any = None  # the one in which it travels
        self._at = 0  # its place there
        self._ended = False

    @property
    def _task(self) -> tuple[Any, ...]:
        """What goes to a worker: see `_worker`."""
        task = (self._mode, self._function, self._first, self._second)
        return task if self._given is None else (*task, self._given)

    def _end(self) -> None:
        """Nothing more is to be done for it."""
        self._slot = self._bundle = self._first = self._second = None
        self._ended = True

    def _succeed(self, value: Any) -> None:
        """The task has returned `value`. Runs in whatever thread has collected it."""
        raise NotImplementedError

    def _fail(self, error: BaseException, remote: str | None) -> None:
        """The task has failed; `remote` is the worker's traceback if it raised there."""
        raise NotImplementedError

    def _describe(self) -> str:
        """The call, in words."""
        return "a task" if self._ended else _worker.describe(self._task, self._function)


class _Nobody(Job):
    """Stands for a job that was dropped while its slot was still a worker's."""

    def __init__(self) -> None:
        super().__init__(_worker.CALL, None, ())

    def _succeed(self, value: Any) -> None:
        """Nobody waits for it."""

    def _fail(self, error: BaseException, remote: str | None) -> None:
        """Nobody waits for it."""


class Forgiving(dict[int, Job]):
    """The jobs of a pool that was ended: whatever still comes is nobody's."""

    def pop(self, slot: int, *default: Any) -> Job:
        """The job of a slot, or somebody to take what came for it."""
        return super().pop(slot, None) or _Nobody()


def show() -> None:
    """Print what a callback of the program has raised in a thread of ours, as for any thread."""
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
