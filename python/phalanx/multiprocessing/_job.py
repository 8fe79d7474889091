"""One task of a pool, as its master sees it."""

from __future__ import annotations

from phalanx.multiprocessing import _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Forgiving", "Job"]


class Job:
    """One task from its submission to its end. A subclass says what becomes of the result.

    Many are made, and few need more than a function and arguments: what is rare has its default here.
    """

    is_bundle = False
    slot: int | None = None
    """Where it lies on the board; None while it waits for room or travels in a bundle, or once it has ended."""
    ended = False
    alone = True
    """It may not share a bundle with others that call the same function."""
    bundle: Any = None
    """The one in which it travels."""
    at = 0
    """Its place there."""
    by_value = False
    given: dict[str, int] | None = None
    """What its worker has to know of its options."""
    limit: float | None = None
    """Seconds."""
    began = 0.0
    """When it was first seen in a worker's hands, if it has a limit."""
    tries = 0
    """How often it may still be run again."""
    doom: BaseException | None = None
    """What its caller gets, now that its worker is being ended."""

    def __init__(self, mode: int, function: Any, first: Any, second: Any = None) -> None:
        self.mode = mode
        self.function = function
        self.first = first
        self.second = second

    @property
    def task(self) -> tuple[Any, ...]:
        """What goes to a worker: see `_worker`."""
        task = (self.mode, self.function, self.first, self.second)
        return task if self.given is None else (*task, self.given)

    def end(self) -> None:
        """Nothing more is to be done for it."""
        self.slot = self.bundle = self.first = self.second = None
        self.ended = True

    def succeed(self, value: Any) -> None:
        """The task has returned `value`. Runs in whatever thread has collected it."""
        raise NotImplementedError

    def fail(self, error: BaseException, remote: str | None) -> None:
        """The task has failed; `remote` is the worker's traceback if it raised there."""
        raise NotImplementedError

    def describe(self) -> str:
        """The call, in words."""
        return "a task" if self.ended else _worker.describe(self.task, self.function)


class _Nobody(Job):
    """Stands for a job that was dropped while its slot was still a worker's."""

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
