"""`multiprocessing` with our parts behind its names: use it like the standard module.

    from phalanx import multiprocessing

It shares the state of the standard module: there is one `current_process()`, one set of children, one default start
method, one fork server and one resource tracker. Submodules that have no counterpart here, such as
`phalanx.multiprocessing.util`, are those of the standard library.

What processes can do here beyond the standard ones: `Process.exit_reason` says in words how one ended; a process whose
parent is gone ends as well, unless `Process.outlive_parent` is set before it starts; `spawn` copies a prepared
interpreter.
"""

from __future__ import annotations

import _thread
import sys
import threading

from phalanx import _core
from phalanx.multiprocessing import context
from phalanx.multiprocessing.context import (
    AuthenticationError,
    BufferTooShort,
    Process,
    ProcessError,
    TimeoutError,
)
from phalanx.multiprocessing.process import active_children, current_process, parent_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]

SUBDEBUG = 5
SUBWARNING = 25

_default = context._default_context

Array = _default.Array
Barrier = _default.Barrier
BoundedSemaphore = _default.BoundedSemaphore
Condition = _default.Condition
Event = _default.Event
JoinableQueue = _default.JoinableQueue
Lock = _default.Lock
Manager = _default.Manager
Pipe = _default.Pipe
Pool = _default.Pool
Queue = _default.Queue
RLock = _default.RLock
RawArray = _default.RawArray
RawValue = _default.RawValue
Semaphore = _default.Semaphore
SimpleQueue = _default.SimpleQueue
Value = _default.Value
allow_connection_pickling = _default.allow_connection_pickling
cpu_count = _default.cpu_count
freeze_support = _default.freeze_support
get_all_start_methods = _default.get_all_start_methods
get_context = _default.get_context
get_logger = _default.get_logger
get_start_method = _default.get_start_method
log_to_stderr = _default.log_to_stderr
reducer = _default.reducer
set_executable = _default.set_executable
set_forkserver_preload = _default.set_forkserver_preload
set_start_method = _default.set_start_method


class _StandardParts:
    """Finds the submodules that only the standard package has: the very same modules, under our name."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a submodule for which this package has no file."""
        package, _, part = name.rpartition(".")
        if package != __name__:
            return None
        from importlib.machinery import PathFinder
        from importlib.util import find_spec, spec_from_loader

        if PathFinder.find_spec(name, path) is not None or find_spec(f"multiprocessing.{part}") is None:
            return None
        return spec_from_loader(name, _StandardPart(f"multiprocessing.{part}"))  # type: ignore[arg-type]


class _StandardPart:
    """Loads one of them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to the import system to make an empty module, which nobody will see."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the standard module in its place."""
        from importlib import import_module

        sys.modules[module.__name__] = import_module(self.name)


_OURS = {"AtomicCounter": "phalanx._core", "ndarray": "phalanx.multiprocessing._ndarray"}


def __getattr__(name: str) -> Any:
    if name in _OURS:  # the one needs NumPy
        from importlib import import_module

        return getattr(import_module(_OURS[name]), name)
    # The standard package has its submodules as attributes as soon as anybody has imported them.
    if not name.startswith("_") and f"multiprocessing.{name}" in sys.modules:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


sys.meta_path.append(_StandardParts)


# Waits of the main thread run signal handlers.
_core.set_main_thread(threading.main_thread().ident or _thread.get_ident())
