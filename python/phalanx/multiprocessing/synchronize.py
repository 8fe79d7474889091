"""The primitives of `multiprocessing.synchronize`, between all processes of a tree.

Each lies in shared memory; a handle pickles as a number, outside of starting a process too. A lock whose owner has died
raises `phalanx.OwnerDied` in whoever wants it, until `recover()`; `recover=True` takes it over instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from phalanx import _core
from phalanx._core import SharedBoundedSemaphore as BoundedSemaphore
from phalanx._core import SharedEvent as Event
from phalanx._core import SharedLock as Lock
from phalanx._core import SharedRLock as RLock
from phalanx._core import SharedSemaphore as Semaphore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]


class Condition(_core.SharedCondition):
    """A condition variable for the threads of all processes of a tree.

    lock: a Lock or RLock of multiprocessing; a new RLock if None. A process killed in `wait` disturbs nobody, and a
    notification that had come for it goes to the next.
    """

    def __new__(cls, lock: Any = None, *, ctx: object = None, _packed: Any = None) -> Self:
        """Make it, or take up the handle of one."""
        return super().__new__(cls, RLock() if lock is None else lock, _packed)

    def __init__(self, lock: Any = None, *, ctx: object = None) -> None:
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> bool:
        return bool(self._lock.__enter__())

    def __exit__(self, *exc_info: object) -> None:
        self._lock.__exit__(*exc_info)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_condition, (type(self), self._lock, self._pack())

    def __repr__(self) -> str:
        return f"<Condition({self._lock}, {self._waiters()})>"

    def notify(self, n: int = 1) -> None:
        """Wake up to n of the threads that wait, those first that came first.

        The lock must be held (AssertionError).
        """
        assert self._is_owned(), "lock is not owned"
        self._notify(max(n, 0))

    def notify_all(self) -> None:
        """Wake all threads that wait. The lock must be held (AssertionError)."""
        assert self._is_owned(), "lock is not owned"
        self._notify(2**62)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until `predicate()` is true; return its last value. timeout: seconds in all, None for no limit."""
        result = predicate()
        if result:
            return result
        end = None if timeout is None else monotonic() + timeout
        while not result:
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result


def _rebuild_condition(cls: type[Condition], lock: Any, packed: Any) -> Condition:
    condition = cls.__new__(cls, lock, _packed=packed)
    condition.__init__(lock)  # type: ignore[misc]
    return condition


class Barrier:
    """A meeting point for `parties` threads of any processes of a tree.

    action: called by the last to arrive, before the others go on. timeout: seconds, the default of `wait`. If a process
    dies while it waits here the others get BrokenBarrierError.
    """

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: object = None,
        _packed: Any = None,
    ) -> None:
        if parties < 1:
            raise ValueError("parties must be > 0")
        self._barrier = _core.SharedBarrier(parties, _packed)
        self._action = action
        self._timeout = timeout

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_barrier, (type(self), self.parties, self._action, self._timeout, self._barrier._pack())

    def __repr__(self) -> str:
        state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<{type(self).__name__} at {id(self):#x}: {state}>"

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all have come; return the order of arrival, the last one's being `parties - 1`.

        timeout: seconds until all have come; the barrier's own if None. Raises threading.BrokenBarrierError if the
        barrier is or gets broken, by a time-out, an abort, a reset, a failing action or a death.
        """
        arrived = self._barrier._arrive(self._timeout if timeout is None else timeout)
        if arrived >= 0:
            return arrived
        if arrived != -1:
            raise threading.BrokenBarrierError
        try:
            if self._action is not None:
                self._action()
        except BaseException:
            self._barrier.abort()
            raise
        if not self._barrier._pass():
            raise threading.BrokenBarrierError
        return self.parties - 1

    def reset(self) -> None:
        """Start over; whoever waits now gets BrokenBarrierError."""
        self._barrier.reset()

    def abort(self) -> None:
        """Break it: whoever waits, now or later, gets BrokenBarrierError."""
        self._barrier.abort()

    @property
    def parties(self) -> int:
        """How many threads meet."""
        return self._barrier.parties

    @property
    def n_waiting(self) -> int:
        """How many of them wait at this moment."""
        return self._barrier.n_waiting

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._barrier.broken


def _rebuild_barrier(cls: type[Barrier], parties: int, action: Any, timeout: Any, packed: Any) -> Barrier:
    return cls(parties, action, timeout, _packed=packed)
