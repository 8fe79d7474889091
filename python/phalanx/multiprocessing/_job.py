"""One task of a pool, as its master sees it."""

from __future__ import annotations

from phalanx.multiprocessing import _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Forgiving", "Job"]


class Job:
    """One task from its submission to its end. A subclass says what becomes of the result.

    `slot` is where it lies on the board, None while it waits for room or travels in a bundle, or once it has ended.
    """

    is_bundle = False

    __slots__ = (
        "alone",
        "at",
        "began",
        "bundle",
        "by_value",
        "doom",
        "ended",
        "function",
        "limit",
        "slot",
        "task",
        "tries",
    )

    def __init__(self, mode: int, function: Any, first: Any, second: Any = None) -> None:
        self.function = function
        self.task: tuple[Any, ...] | None = (mode, function, first, second)
        self.slot: int | None = None
        self.limit: float | None = None  # seconds
        self.began = 0.0  # when it was first seen in a worker's hands, if it has a limit
        self.tries = 0  # how often it may still be run again
        self.by_value = False
        self.alone = True  # it may not share a bundle with others that call the same function
        self.bundle: Any = None  # the one in which it travels
        self.at = 0  # its place there
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


class _Nobody(Job):
    """Stands for a job that was dropped while its slot was still a worker's."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_worker.CALL, None, ())

    def succeed(self, value: Any) -> None:
        """Nobody waits for it."""

    def fail(self, error: BaseException, remote: str | None) -> None:
        """Nobody waits for it."""


class Forgiving(dict[int, Job]):
    """The jobs of a pool that was ended: whatever still comes is nobody's."""

    def pop(self, slot: int, *default: Any) -> Job:
        """The job of a slot, or somebody to take what came for it."""
        return super().pop(slot, None) or _Nobody()
