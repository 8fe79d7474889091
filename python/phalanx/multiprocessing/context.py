"""Contexts: the start methods, and the factories for everything that processes share.

They are those of the standard library with our parts behind the names. Which start method is the default is one setting
for both: `set_start_method()` here is `multiprocessing.set_start_method()`.
"""

from __future__ import annotations

from multiprocessing import context as _std
from multiprocessing.context import (
    AuthenticationError,
    BufferTooShort,
    ProcessError,
    TimeoutError,
    assert_spawning,
    get_spawning_popen,
    set_spawning_popen,
)

from phalanx.multiprocessing import process
from phalanx.multiprocessing.process import Ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "assert_spawning",
    "get_spawning_popen",
    "set_spawning_popen",
]

_std_context: Any = _std


# ---------------------------------------------------------------- processes


class Process(Ending, _std.Process):
    """A process, started by the default start method."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _default_context.get_context().Process._Popen(process_obj)


class ForkProcess(Ending, _std.ForkProcess):
    """A process, started by `fork`: a copy of this one, with the calling thread only."""

    _Popen = staticmethod(process.fork_popen)


class SpawnProcess(Ending, _std.SpawnProcess):
    """A process, started in a fresh interpreter that imports the main module."""

    _Popen = staticmethod(process.spawn_popen)


class ForkServerProcess(Ending, _std.ForkServerProcess):
    """A process, forked by a server process that has no threads."""

    _Popen = staticmethod(process.forkserver_popen)


# ---------------------------------------------------------------- contexts


class BaseContext(_std.BaseContext):
    """What all contexts have: the factories. Each takes the arguments of the class that it makes an object of."""

    def Manager(self) -> Any:
        """Start a server process and return its manager, which makes objects there and proxies for them here."""
        from importlib import import_module

        managers: Any = import_module("phalanx.multiprocessing.managers")
        manager = managers.SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> Any:
        """Return two connections, the ends of a pipe; with `duplex` false the first one receives only."""
        from phalanx.multiprocessing.connection import Pipe

        return Pipe(duplex)

    def Lock(self, *, recover: bool = False) -> Any:
        """Return a lock that processes share."""
        from phalanx.multiprocessing.synchronize import Lock

        return Lock(ctx=self.get_context(), recover=recover)

    def RLock(self, *, recover: bool = False) -> Any:
        """Return a lock that processes share, and that its owner may take again."""
        from phalanx.multiprocessing.synchronize import RLock

        return RLock(ctx=self.get_context(), recover=recover)

    def Condition(self, lock: Any = None) -> Any:
        """Return a condition, with an RLock of its own if no lock is given."""
        from phalanx.multiprocessing.synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1, *, recover: bool = False) -> Any:
        """Return a semaphore with `value` permits."""
        from phalanx.multiprocessing.synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context(), recover=recover)

    def BoundedSemaphore(self, value: int = 1, *, recover: bool = False) -> Any:
        """Return a semaphore that never has more than `value` permits."""
        from phalanx.multiprocessing.synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context(), recover=recover)

    def Event(self) -> Any:
        """Return an event, not set."""
        from phalanx.multiprocessing.synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None) -> Any:
        """Return a barrier for `parties` processes or threads; `timeout` in seconds is that of each wait."""
        from phalanx.multiprocessing.synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> Any:
        """Return a queue for at most `maxsize` objects; 0 means no limit."""
        from phalanx.multiprocessing.queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> Any:
        """Return a queue that counts what has not been done with yet."""
        from phalanx.multiprocessing.queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> Any:
        """Return a queue with `put`, `get` and `empty`."""
        from phalanx.multiprocessing.queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Any = (),
        maxtasksperchild: int | None = None,
    ) -> Any:
        """Return a pool of worker processes, one for each processor if `processes` is None."""
        from phalanx.multiprocessing.pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """Return a ctypes object in shared memory, without a lock."""
        from phalanx.multiprocessing.sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """Return a ctypes array in shared memory, without a lock."""
        from phalanx.multiprocessing.sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """Return a ctypes object in shared memory, with a lock unless `lock` is false."""
        from phalanx.multiprocessing.sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """Return a ctypes array in shared memory, with a lock unless `lock` is false."""
        from phalanx.multiprocessing.sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def get_context(self, method: str | None = None) -> Any:
        """Return the context of a start method, or this one. Raises ValueError for a method that there is not."""
        return self if method is None else _context_for(_std_context._default_context.get_context(method))


class ForkContext(BaseContext, _std.ForkContext):
    """The start method `fork`."""

    Process = ForkProcess


class SpawnContext(BaseContext, _std.SpawnContext):
    """The start method `spawn`."""

    Process = SpawnProcess


class ForkServerContext(BaseContext, _std.ForkServerContext):
    """The start method `forkserver`."""

    Process = ForkServerProcess


class DefaultContext(BaseContext):
    """The default start method: that of the standard library's own default context, under our names."""

    Process = Process

    def get_context(self, method: str | None = None) -> Any:
        """Return the context of a start method, without one that of the default, which is settled then."""
        return _context_for(_std_context._default_context.get_context(method))

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Choose the default start method, here and in `multiprocessing`.

        Raises RuntimeError if it has been settled already, unless `force` is true, and ValueError for a method that
        there is not. None takes the choice back if `force` is true.
        """
        _std_context._default_context.set_start_method(method, force)

    def get_start_method(self, allow_none: bool = False) -> Any:
        """Return the default start method, which is settled then, or None if it is not and `allow_none` is true."""
        return _std_context._default_context.get_start_method(allow_none)

    def get_all_start_methods(self) -> list[str]:
        """Return the start methods that this system has, the default first."""
        methods: list[str] = _std_context._default_context.get_all_start_methods()
        return methods


def _context_for(standard: Any) -> Any:
    """Our context in place of a standard one; one that somebody else has added stays what it is."""
    return _concrete_contexts.get(getattr(standard, "_name", None), standard)


_concrete_contexts: dict[str | None, Any] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_default_context = DefaultContext()
