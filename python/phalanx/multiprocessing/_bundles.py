"""Bundles: many small tasks that travel together and end one by one, as if each had gone alone."""

from __future__ import annotations

from collections import deque
from functools import partial
from operator import attrgetter, itemgetter
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)

from phalanx import _core
from phalanx.multiprocessing import _worker
from phalanx.multiprocessing._job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["GIVEN", "Backlog", "Bundle", "Pace", "has_state"]

GIVEN = 10
"""In the log: a result that was read. This plus what `Sealed.kind` says: a value, a failure, unreadable."""

_NAMED = (FunctionType, MethodDescriptorType, WrapperDescriptorType, itemgetter, attrgetter)
_ATOMS = (int, float, complex, str, bytes, bool, type(None))
_LONG = 2e5  # nanoseconds that a bundle may take
_LARGE = 1 << 16  # bytes of its tasks and results
_MOST = _core.Board.BUNDLE


class Bundle(Job):
    """Tasks that call one function: a subclass says what is done with their results, and with one that goes alone."""

    is_company = False

    def __init__(self, mode: int, function: Any, items: tuple[Any, ...]) -> None:
        super().__init__(mode, function, items)
        self.items = items
        self.kept = len(items)  # so many are this bundle's; the others were taken back
        self.seen = False  # running, at the last look
        self.closed = False  # there is nothing more to come for it
        self._logged = 0  # failures of the tasks before this one are in the log
        self._wrecked = False  # and so is the task over which its worker died

    def single(self, at: int) -> Job:
        """The task number `at`, to go alone."""
        raise NotImplementedError

    def deliver(self, first: int, values: list[Any], later: deque[Any]) -> None:
        """Tasks from number `first` on have ended; those that only the tender may tell are added to `later`."""
        raise NotImplementedError

    def learn(self, n: int, spent: int, size: int) -> None:
        """The bundle has ended, after so many tasks, nanoseconds and bytes."""
        raise NotImplementedError

    def close(self) -> None:
        """There is nothing more to come for it."""
        self.closed = True

    def take(self, sealed: Any, found: deque[Any], later: deque[Any], whole: bool) -> None:
        """Deliver what a board has told. Failures become `found`, as if those tasks had gone alone."""
        first, values, spent, size, odd = sealed.value
        given = first + len(values)
        if odd and self._logged < given:
            entries = [(self.single(at), GIVEN + kind, value) for at, kind, value in odd]
            # One step for signals: no call lies between these lines.
            found += entries
            self._logged = given
        begin = 0
        for end in [*(at - first for at, _, _ in odd), len(values)]:
            if end > begin and first + end > self._told:
                self.deliver(first + begin, values[begin:end], later)
            begin = end + 1
        if whole and not self.closed:
            self.learn(given, spent, size)

    def _succeed(self, value: Any) -> bool:
        raise AssertionError("a bundle ends task by task")

    @property
    def is_whole(self) -> bool:
        """All of its tasks are still its own."""
        return True

    def singles(self, begun: int) -> list[Job]:
        """Those of its tasks that the worker has not begun, to go alone."""
        return [self.single(at) for at in range(begun, self.kept)]

    def untold(self) -> int:
        """How many of its tasks nothing has been told of."""
        return max(0, self.kept - max(self._told, self._logged))


def has_state(function: Any) -> bool:
    """Say whether a call may change what the next one sees if both had one copy of `function`.

    Tasks that travel together have one; else each has its own, unless it goes by a name.
    """
    kind = type(function)
    if kind in _NAMED or isinstance(function, type):
        return False
    if kind in (BuiltinFunctionType, MethodType):
        return not (function.__self__ is None or isinstance(function.__self__, (ModuleType, type)))
    if kind is partial:
        values = (*function.args, *function.keywords.values())
        return bool(vars(function)) or has_state(function.func) or any(type(value) not in _ATOMS for value in values)
    return True


class Pace:
    """How many tasks go in one bundle, from what the last ones took: time, and bytes."""

    def __init__(self, crew: Any = None) -> None:
        self._crew = crew
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
        if not self._each or (self._crew is not None and not self._crew.bundles):
            return 1
        return max(1, min(_MOST, int(_LONG / self._each), int(_LARGE / self._size)))


class _Company(Bundle):
    """Calls that were submitted one by one, and wait for a worker together."""

    is_company = True

    def __init__(self, jobs: list[Job], backlog: Backlog) -> None:
        items = tuple([job._first for job in jobs])
        super().__init__(_worker.STARMAP, jobs[0]._function, items)
        self._jobs = jobs
        self._backlog = backlog
        for at, job in enumerate(jobs):
            job._bundle, job._at = self, at

    @property
    def is_whole(self) -> bool:
        return all(job._bundle is self and not job._ended for job in self._jobs)

    def single(self, at: int) -> Job:
        job = self._jobs[at]
        job._bundle = None
        job._alone = True
        return job

    def deliver(self, first: int, values: list[Any], later: deque[Any]) -> None:
        for job, value in zip(self._jobs[first : first + len(values)], values, strict=True):
            if job._succeed(value):
                job._ended = True
                job._bundle = job._first = None
            else:
                later.append((job, GIVEN, value))

    def _end(self) -> None:
        super()._end()
        self._backlog.forget(self)

    def learn(self, n: int, spent: int, size: int) -> None:
        self._backlog.learn(self._function, n, spent, size)

    def _fail(self, error: BaseException, remote: str | None) -> bool:
        told = True
        for job in self._jobs[: self.kept]:
            if job._ended:
                continue
            if job._fail(error, remote):
                job._end()
            else:
                told = False
        return told


class Backlog:
    """Jobs that wait for room on the board, or for others that call the same function, to travel together.

    Anybody adds to the end, without a lock; one thread at a time looks at the front, posts what is there, and then
    takes it out. Only one function at a time is known to be quick, the one that was called last.
    """

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()  # with some that are stale
        self._function: Any = None
        self._pace = Pace()
        self._many = 1  # as the pace says
        self.together = True  # unless that has stopped a pool: see `_stall`
        self._has_state = False  # each call has to have its own copy of it
        self._probe: _Company | None = None  # went alone, to see how long it takes
        self._shunned: Any = None  # a function whose calls could not travel together

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs.copy())  # who submits adds to them without a lock

    def add(self, *jobs: Job) -> None:
        """Let them wait behind all others."""
        for job in jobs:
            job._waits = True
        self.jobs += jobs

    def hold(self, job: Job) -> bool:
        """Let it wait, and say whether it had better wait for more, if the workers have enough to do."""
        jobs = self.jobs
        job._waits = True
        jobs.append(job)
        return len(jobs) < self._many and job._function is self._function

    def learn(self, function: Any, n: int, spent: int, size: int) -> None:
        """So many calls of a function took `spent` nanoseconds and `size` bytes."""
        if function is self._function:
            self._pace.learn(n, spent, size)
            self._many = self._pace.many()

    def forget(self, company: Job) -> None:
        """It has ended or was not posted. Kept as the probe it would keep its calls, their results and exceptions."""
        if company is self._probe:
            self._probe = None

    def shun(self, company: Job) -> None:
        """The calls of its function go alone from now on."""
        self._shunned = company._function
        self.forget(company)

    def _goes_alone(self, job: Job) -> bool:
        return job._alone or job._by_value or job._function is self._shunned

    def peek(self, plenty: bool) -> Job | None:
        """What is to be posted next: the oldest, or a bundle of the oldest ones.

        None: there is nothing, or where `plenty` are under way, it had better wait until it is known how many may
        travel together.
        """
        jobs = self.jobs
        while jobs and jobs[0]._is_stale:
            jobs.popleft()
        if not jobs:
            return None
        first = jobs[0]
        if self._goes_alone(first):
            return first
        if first._function is not self._function:
            self._function, self._pace, self._probe, self._many = first._function, Pace(), None, 1
            self._has_state = has_state(first._function)
        if self._has_state or not self.together:
            return first
        if self._many == 1:
            if self._probe is None or self._probe._slot is None:
                self._probe = _Company([first], self)
                return self._probe
            return None if plenty else first
        group = [first]
        for at in range(1, min(self._many, len(jobs))):
            job = jobs[at]
            if self._goes_alone(job) or job._function is not self._function or job._is_stale:
                break
            group.append(job)
        return _Company(group, self)

    def took(self, job: Job) -> None:
        """What `peek()` has given is posted, or will not be."""
        jobs = self.jobs
        for one in job._jobs if isinstance(job, _Company) else (job,):
            if jobs and jobs[0] is one:
                jobs.popleft()
            one._waits = False
