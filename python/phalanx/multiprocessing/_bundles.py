"""Bundles: many small tasks of a map that travel together and end one by one, as if each had gone alone."""

from __future__ import annotations

from phalanx import _core
from phalanx.multiprocessing._job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Bundle", "Pace"]

_LONG = 2e5  # nanoseconds that a bundle may take
_LARGE = 1 << 16  # bytes of its tasks and results
_MOST = _core.Board.BUNDLE


class Bundle(Job):
    """Tasks of a map with one item each: what a subclass does with their results, and with one that goes alone."""

    __slots__ = ("items", "kept", "seen")

    is_bundle = True

    def __init__(self, mode: int, function: Any, items: tuple[Any, ...]) -> None:
        super().__init__(mode, function, items)
        self.items = items
        self.kept = len(items)  # so many are this bundle's; the others were taken back
        self.seen = False  # running, at the last look

    def single(self, at: int) -> Job:
        """The task number `at`, to go alone."""
        raise NotImplementedError

    def deliver(self, first: int, values: list[Any], whole: bool) -> None:
        """Tasks from number `first` on have ended; with `whole` there is nothing more to come for this bundle."""
        raise NotImplementedError

    def learn(self, n: int, spent: int, size: int) -> None:
        """The bundle has ended, after so many tasks, nanoseconds and bytes."""
        raise NotImplementedError

    def take(self, outcome: tuple[Any, ...], found: list[tuple[Job, int, Any]], whole: bool) -> None:
        """Deliver what a board has told. Failures become `found`, as if those tasks had gone alone."""
        first, values, _, spent, size, odd = outcome
        found += [(self.single(at), kind, value) for at, kind, value in odd]
        if whole:
            self.learn(first + len(values), spent, size)
        begin = 0
        for end in [*(at - first for at, _, _ in odd), len(values)]:
            if end > begin:
                self.deliver(first + begin, values[begin:end], False)
            begin = end + 1
        if whole:
            self.deliver(first, [], True)

    def succeed(self, value: Any) -> None:
        raise AssertionError("a bundle ends task by task")

    def singles(self, begun: int) -> list[Job]:
        """Those of its tasks that the worker has not begun, to go alone."""
        return [self.single(at) for at in range(begun, self.kept)]


class Pace:
    """How many tasks go in one bundle, from what the last ones took: time, and bytes."""

    def __init__(self) -> None:
        self._each = 0.0  # nanoseconds
        self._size = 0.0  # bytes

    def learn(self, n: int, spent: int, size: int) -> None:
        """So many tasks took `spent` nanoseconds and `size` bytes."""
        if n:
            each, size_each = max(1.0, spent / n), max(1.0, size / n)
            # A worker that was not running for a while looks slow: the better of two news counts at once.
            self._each = each if not self._each or each < self._each else (self._each + each) / 2
            self._size = size_each if not self._size else (self._size + size_each) / 2

    def many(self) -> int:
        """How many tasks the next bundle should have."""
        if not self._each:
            return 1
        return max(1, min(_MOST, int(_LONG / self._each), int(_LARGE / self._size)))
