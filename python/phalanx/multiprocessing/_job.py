"""One task of a pool, as its master sees it."""

from __future__ import annotations

from phalanx.multiprocessing import _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Job"]


class Job:
    """One task from its submission to its end. A subclass says what becomes of the result.

    `slot` is where it lies on the board, None while it waits for room or once it has ended.
    """

    is_bundle = False

    __slots__ = ("began", "by_value", "doom", "ended", "function", "limit", "slot", "task", "tries")

    def __init__(self, mode: int, function: Any, first: Any, second: Any = None) -> None:
        self.function = function
        self.task: tuple[Any, ...] | None = (mode, function, first, second)
        self.slot: int | None = None
        self.limit: float | None = None  # seconds
        self.began = 0.0  # when it was first seen in a worker's hands, if it has a limit
        self.tries = 0  # how often it may still be run again
        self.by_value = False
        self.doom: BaseException | None = None  # what its caller gets, now that its worker is being ended
        self.ended = False

    def succeed(self, value: Any) -> None:
        """The task has returned `value`. Runs in whatever thread has collected it."""
        raise NotImplementedError

    def fail(self, error: BaseException, remote: str | None) -> None:
        """The task has failed; `remote` is the worker's traceback if it raised there."""
        raise NotImplementedError

    def describe(self) -> str:
        """The call, in words."""
        return _worker.describe(self.task, self.function) if self.task else "a task"
