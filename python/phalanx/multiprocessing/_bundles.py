"""Bundles: many small tasks that travel together and end one by one, as if each had gone alone."""

from __future__ import annotations

from collections import deque

from phalanx import _core
from phalanx.multiprocessing import _worker
from phalanx.multiprocessing._job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Backlog", "Bundle", "Pace"]

_LONG = 2e5  # nanoseconds that a bundle may take
_LARGE = 1 << 16  # bytes of its tasks and results
_MOST = _core.Board.BUNDLE


class Bundle(Job):
    """Tasks that call one function: a subclass says what is done with their results, and with one that goes alone."""

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

    def left(self, outcome: tuple[Any, ...]) -> list[tuple[Job, Any]]:
        """Of what `take()` was interrupted over: those that may still be told, the last first, with their values."""
        return []

    def take(self, outcome: tuple[Any, ...], found: deque[tuple[Job, int, Any]], whole: bool) -> None:
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

    def _succeed(self, value: Any) -> None:
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


class _Company(Bundle):
    """Calls that were submitted one by one, and wait for a worker together."""

    def __init__(self, jobs: list[Job], backlog: Backlog) -> None:
        items = tuple([job._first for job in jobs])
        super().__init__(_worker.STARMAP, jobs[0]._function, items)
        self._jobs = jobs
        self._backlog = backlog
        for at, job in enumerate(jobs):
            job._bundle, job._at = self, at

    def disperse(self) -> list[Job]:
        """It was not posted: its jobs, as they were."""
        for job in self._jobs:
            job._bundle = None
        return self._jobs

    def single(self, at: int) -> Job:
        job = self._jobs[at]
        job._bundle = None
        job._alone = True
        return job

    def deliver(self, first: int, values: list[Any], whole: bool) -> None:
        for job, value in zip(self._jobs[first : first + len(values)], values, strict=True):
            job._ended = True
            job._bundle = job._first = None
            job._succeed(value)

    def _end(self) -> None:
        super()._end()
        self._backlog.forget(self)

    def left(self, outcome: tuple[Any, ...]) -> list[tuple[Job, Any]]:
        first, values, *_, odd = outcome
        apart = {at for at, _, _ in odd}
        all_of_them = [(self._jobs[at], value) for at, value in enumerate(values, first) if at not in apart]
        return [(job, value) for job, value in reversed(all_of_them) if not job._ended]

    def learn(self, n: int, spent: int, size: int) -> None:
        self._backlog.learn(self._function, n, spent, size)

    def _fail(self, error: BaseException, remote: str | None) -> None:
        for job in self._jobs[: self.kept]:
            if not job._ended:
                job._end()
                job._fail(error, remote)


class Backlog:
    """Jobs that wait for room on the board, or for others that call the same function, to travel together.

    Only one function at a time is known to be quick, the one that was called last.
    """

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._function: Any = None
        self._pace = Pace()
        self._many = 1  # as the pace says
        self._probe: _Company | None = None  # went alone, to see how long it takes
        self._shunned: Any = None  # a function whose calls could not travel together

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.copy())  # who submits adds to them without a lock

    def add(self, *jobs: Job) -> None:
        """Let them wait behind all others."""
        self._jobs += jobs

    def hold(self, job: Job) -> bool:
        """Let it wait, and say whether it had better wait for more, if the workers have enough to do."""
        jobs = self._jobs
        jobs.append(job)
        return len(jobs) < self._many and job._function is self._function

    def remove(self, job: Job) -> bool:
        """Take one out; False if it does not wait. O(1) for the newest, else O(n)."""
        if self._jobs and self._jobs[-1] is job:
            self._jobs.pop()
            return True
        try:
            self._jobs.remove(job)
        except ValueError:
            return False
        return True

    def drain(self) -> list[Job]:
        """Take all out. One by one: others may come meanwhile, and none is to be thrown away."""
        jobs = []
        while self._jobs:
            jobs.append(self._jobs.popleft())
        return jobs

    def learn(self, function: Any, n: int, spent: int, size: int) -> None:
        """So many calls of a function took `spent` nanoseconds and `size` bytes."""
        if function is self._function:
            self._pace.learn(n, spent, size)
            self._many = self._pace.many()

    def forget(self, company: _Company) -> None:
        """It has ended or was not posted. Kept as the probe it would keep its calls, their results and exceptions."""
        if company is self._probe:
            self._probe = None

    def shun(self, function: Any) -> None:
        """The calls of this function go alone from now on."""
        self._shunned = function

    def is_learning(self) -> bool:
        """Say whether it will soon be known how many may travel together with what is to be posted next."""
        first = self._jobs[0]
        apart = first._alone or first._function is not self._function or first._function is self._shunned
        return not apart and self._many == 1 and self._probe is not None

    def next(self) -> Job:
        """Take out what is to be posted next: the oldest, or a bundle of the oldest ones."""
        jobs = self._jobs
        first = jobs.popleft()
        if first._alone or first._function is self._shunned:
            return first
        if first._function is not self._function:
            self._function, self._pace, self._probe, self._many = first._function, Pace(), None, 1
        many = self._many
        if many == 1:
            if self._probe is not None:
                return first
            self._probe = _Company([first], self)
            return self._probe
        group = [first]
        while len(group) < many and jobs and not jobs[0]._alone and jobs[0]._function is self._function:
            group.append(jobs.popleft())
        return _Company(group, self)

    def put_back(self, job: Job) -> None:
        """There was no room for what `next()` has given."""
        if isinstance(job, _Company):
            self.forget(job)
            self._jobs.extendleft(reversed(job.disperse()))
        else:
            self._jobs.appendleft(job)
