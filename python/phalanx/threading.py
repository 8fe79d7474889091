"""The standard `threading` module with every lock and every wait in Rust.

`from phalanx import threading` instead of `import threading` is enough; `phalanx.install()` makes the standard module
itself look like this one. Names, signatures, exceptions and reprs are the standard library's, its documentation holds.
What is added: a wait that can never end raises `phalanx.DeadlockError` in one of the threads involved.

Common to all of them:

- Times are seconds, as int or float. A `timeout` of None waits without a limit. For what negative, infinite and too
  large ones mean, each class follows the standard library.
- Whoever waits sleeps without the GIL, wakes for signal handlers if it is the main thread, and then sleeps on for the
  time that is left.
- Sleepers of one object are woken in the order in which they came. A lock that is free may be taken by whoever runs
  first, so that a lock under load changes hands less often; nobody starves, because a woken thread tries again as the
  first.
- Without contention each operation is a few atomic instructions, O(1), whatever the number of threads.

Classes that nobody waits in (`Thread`, `Timer`, `local` ...) and all functions are the standard library's own
objects, and so is every module variable: reading or setting `excepthook` here is reading or setting it there. There
is one `enumerate()` and one shutdown.
"""

import sys as _sys
import threading as _std
from time import monotonic as _monotonic

from phalanx import _core, _threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable as _Callable
    from threading import TIMEOUT_MAX as TIMEOUT_MAX
    from threading import BrokenBarrierError as BrokenBarrierError
    from threading import ExceptHookArgs as ExceptHookArgs
    from threading import Thread as Thread
    from threading import ThreadError as ThreadError
    from threading import Timer as Timer
    from threading import active_count as active_count
    from threading import current_thread as current_thread
    from threading import enumerate as enumerate
    from threading import excepthook as excepthook
    from threading import get_ident as get_ident
    from threading import get_native_id as get_native_id
    from threading import getprofile as getprofile
    from threading import gettrace as gettrace
    from threading import local as local
    from threading import main_thread as main_thread
    from threading import setprofile as setprofile
    from threading import settrace as settrace
    from threading import stack_size as stack_size
    from typing import Any as _Any
    from typing import TypeVar as _TypeVar

    _T = _TypeVar("_T")

_threads.adopt()

# A class that can be called from 3.13 on, before that a function.
if TYPE_CHECKING or _sys.version_info >= (3, 13):
    Lock = _core.Lock

    def _refuse_to_pickle(self: Lock) -> "_Any":
        raise TypeError("cannot pickle '_thread.lock' object")

    # A plain Python method, so that the class can be told from the standard one of the same name.
    Lock.__reduce__ = _refuse_to_pickle  # type: ignore[method-assign, assignment]
else:
    Lock = _core.allocate_lock
    Lock.__module__ = "threading"  # it is found there under its name, as the standard one


def RLock(*args: "_Any", **kwargs: "_Any") -> "_core.RLock":
    """Return a new re-entrant lock.

    The thread that holds it may acquire it again without waiting and must release it as often. Releasing one that the
    calling thread does not hold raises RuntimeError. `with`, `acquire(blocking=True, timeout=-1)` and `release()`
    work as those of `Lock`.
    """
    if (args or kwargs) and _sys.version_info >= (3, 13):
        _deprecated("Passing arguments to RLock is deprecated and will be removed in 3.15")
    return _core.RLock()


def _deprecated(text: str) -> None:
    import warnings

    warnings.warn(text, DeprecationWarning, stacklevel=3)


class Condition(_core.Condition):
    """A condition variable: lets threads wait until another one says that something has changed.

    `lock` is a Lock, an RLock or any object with the same methods; without it a new RLock is made. The condition is
    used as a context manager round both the change and the wait, and gives access to the lock's `acquire` and
    `release`.

    - `wait(timeout=None)` gives the lock back, sleeps until it is notified or until the time is over, takes the lock
      again and returns whether it was notified. It may be asked in a loop only: what was true at `notify` may no
      longer be.
    - `wait_for(predicate, timeout=None)` is that loop.
    - `notify(n=1)` wakes the `n` threads that have waited longest, `notify_all()` every one. O(1) for each thread
      woken.

    Calling these without holding the lock raises RuntimeError. Foreign locks work, only slower.
    """

    __module__ = "threading"

    def __init_subclass__(cls, **kwargs: "_Any") -> None:
        super().__init_subclass__(**kwargs)
        # In Rust notify_all() does not pass by notify(); a subclass that has its own expects that.
        if "notify" in cls.__dict__ and "notify_all" not in cls.__dict__:
            cls.notify_all = _notify_all_by_notify  # type: ignore[method-assign, assignment]

    def __repr__(self) -> str:
        return f"<Condition({self._lock}, {self._waiting})>"

    def wait_for(self, predicate: "_Callable[[], _T]", timeout: float | None = None) -> "_T":
        """Wait until `predicate()` is true, or for at most `timeout` seconds, and return what it returned last.

        The predicate is asked with the lock held, first before any wait and then after each notification and at the end
        of the time. Raises RuntimeError if the lock is not held and a wait is needed.
        """
        result = predicate()
        if result or timeout is None:
            while not result:
                self.wait()
                result = predicate()
            return result
        end = _monotonic() + timeout
        left = timeout
        while not result:
            self.wait(left)
            result = predicate()
            left = end - _monotonic()
            if left <= 0:
                break
        return result

    def _wait_foreign(self, timeout: float | None) -> bool:
        # The queue is entered before the lock is given back, so no notification falls in between.
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        ticket = self._enter(timeout is not None)
        try:
            saved = self._release_save()
        except BaseException:
            self._leave(ticket)
            raise
        notified = False
        try:
            notified = self._sleep(ticket, timeout)
        finally:
            try:
                self._acquire_restore(saved)
            except BaseException:
                if notified:
                    self._pass_on()
                raise
        return notified

    def _release_save(self) -> "_Any":
        save = getattr(self._lock, "_release_save", None)
        return self._lock.release() if save is None else save()

    def _acquire_restore(self, saved: "_Any") -> None:
        restore = getattr(self._lock, "_acquire_restore", None)
        if restore is None:
            self._lock.acquire()
        else:
            restore(saved)

    def _is_owned(self) -> bool:
        owned = getattr(self._lock, "_is_owned", None)
        if owned is not None:
            return bool(owned())
        if self._lock.acquire(False):
            self._lock.release()
            return False
        return True

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()
        self._forget_waiters()

    def notifyAll(self) -> None:
        """Wake up all threads that wait on this condition. Deprecated: use `notify_all()`."""
        _deprecated("notifyAll() is deprecated, use notify_all() instead")
        self.notify_all()


def _notify_all_by_notify(self: Condition) -> None:
    self.notify(self._waiting)


class Semaphore(_core.Semaphore):
    """A counter of free places: `acquire` takes one and waits while there is none, `release` gives one back.

    `value` is the number of free places at the start; a negative one raises ValueError.

    - `acquire(blocking=True, timeout=None)` returns whether it got a place: always True if it may wait without a
      limit. With `blocking=False` it never waits; giving a timeout as well raises ValueError. Waiters are woken in
      the order in which they came; a thread that comes by may take a place first.
    - `release(n=1)` gives `n` places back and wakes as many waiters; `n` below 1 raises ValueError. Any thread may
      release.
    - `with` acquires and releases.
    """

    __module__ = "threading"

    def __init_subclass__(cls, **kwargs: "_Any") -> None:
        super().__init_subclass__(**kwargs)
        # In Rust the end of `with` does not pass by release(); a subclass that has its own expects that.
        if "release" in cls.__dict__ and "__exit__" not in cls.__dict__:
            cls.__exit__ = _exit_by_release  # type: ignore[method-assign, assignment]

    def __repr__(self) -> str:
        cls = type(self)
        return f"<{cls.__module__}.{cls.__qualname__} at {id(self):#x}: value={self._value}>"


def _exit_by_release(self: Semaphore, *_error: object) -> None:
    self.release()


class BoundedSemaphore(_core.BoundedSemaphore, Semaphore):
    """A semaphore that refuses to have more free places than at the start.

    As `Semaphore`, but a `release` beyond the initial `value` raises ValueError and changes nothing: whoever releases
    more often than it acquires is told at once.
    """

    __module__ = "threading"

    def __repr__(self) -> str:
        cls = type(self)
        return f"<{cls.__module__}.{cls.__qualname__} at {id(self):#x}: value={self._value}/{self._initial_value}>"


class Event(_core.Event):
    """A flag that threads can wait for. It is down at the start.

    - `set()` raises the flag and wakes all who wait; `clear()` lowers it. O(1) when nobody waits.
    - `wait(timeout=None)` returns True at once while the flag is up, otherwise it sleeps until it is raised, and
      returns False only if the time is over first. Who was waiting at `set()` is woken even if `clear()` follows at
      once.
    - `is_set()` looks at the flag.
    """

    __module__ = "threading"

    def __repr__(self) -> str:
        cls = type(self)
        status = "set" if self.is_set() else "unset"
        return f"<{cls.__module__}.{cls.__qualname__} at {id(self):#x}: {status}>"

    def isSet(self) -> bool:
        """Return whether the flag is up. Deprecated: use `is_set()`."""
        _deprecated("isSet() is deprecated, use is_set() instead")
        return self.is_set()


class Barrier(_core.Barrier):
    """A meeting point: nobody goes on before all `parties` threads have arrived, round after round.

    `action` is called by one of them before all are let go; `timeout` is the default for `wait`. No party at all raises
    ValueError.

    - `wait(timeout=None)` returns the place in the order of arrival, from 0 to `parties - 1`, different for each
      thread. If the time is over before all have come, if `action` raises (that thread gets its exception), or if the
      barrier is reset or aborted, the others get BrokenBarrierError and so does every later `wait` until `reset()`.
    - `reset()` makes the barrier new; who waits gets BrokenBarrierError. `abort()` breaks it for good.
    - `parties`, `n_waiting` and `broken` tell how it stands.
    """

    __module__ = "threading"

    def __init__(
        self, parties: int, action: "_Callable[[], object] | None" = None, timeout: float | None = None
    ) -> None:
        if parties < 1:
            raise ValueError("parties must be > 0")
        self._init(parties)
        self._action = action
        self._timeout = timeout

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties have come; return this thread's place in the order of arrival, from 0.

        `timeout`: seconds, the default is that of the barrier. Raises BrokenBarrierError if the barrier is or gets
        broken, which a time-out, an exception in the action and a deadlock do for everybody.
        """
        place = self._arrive(self._timeout if timeout is None else timeout)
        if place >= 0:
            return place
        if place == -2:
            raise _std.BrokenBarrierError
        if self._action is not None:
            try:
                self._action()
            except BaseException:
                self.abort()
                raise
        if not self._pass():
            raise _std.BrokenBarrierError
        return self.parties - 1

    def __repr__(self) -> str:
        cls = type(self)
        status = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<{cls.__module__}.{cls.__qualname__} at {id(self):#x}: {status}>"


RLock.__module__ = "threading"

_OWN = frozenset(
    {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "_CRLock", "_allocate_lock"}
)
_CRLock = _core.RLock
_allocate_lock = Lock
__all__ = list(_std.__all__)

# What a name of the standard module was before it was set through this one, newest last. Tools that patch for a test
# look for the name in our `__dict__`, find it missing, and delete it in the end to get the old value back.
_covered: "dict[str, list[object]]" = {}


class _Face(type(_sys)):  # type: ignore[misc]
    """This module's type: what is not defined here is read from, set in and deleted from the standard module."""

    def __getattr__(self, name: str) -> "_Any":
        return getattr(_std, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in _OWN or name.startswith("__"):
            super().__setattr__(name, value)
        else:
            if name in _std.__dict__:
                _covered.setdefault(name, []).append(_std.__dict__[name])
                del _covered[name][:-8]
            setattr(_std, name, value)

    def __delattr__(self, name: str) -> None:
        if name in _OWN or name.startswith("__"):
            super().__delattr__(name)
        elif _covered.get(name):
            setattr(_std, name, _covered[name].pop())
        else:
            delattr(_std, name)

    def __dir__(self) -> list[str]:
        return sorted({*_std.__dict__, *_OWN, "__all__"})


_sys.modules[__name__].__class__ = _Face
