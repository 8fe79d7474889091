"""The standard `concurrent.futures` with futures and thread pools in Rust.

`Future` and `ThreadPoolExecutor` are subclasses of the standard ones, so `isinstance`, `asyncio.wrap_future` and
`loop.set_default_executor` accept them. `ProcessPoolExecutor` is ours too; the rest, `InterpreterPoolExecutor` of
Python 3.14 among it, is the standard library's own.
"""

from __future__ import annotations

import concurrent.futures as _std

from phalanx.concurrent.futures._base import Future as Future
from phalanx.concurrent.futures._base import as_completed as as_completed
from phalanx.concurrent.futures._base import wait as wait
from phalanx.concurrent.futures.thread import ThreadPoolExecutor as ThreadPoolExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import ALL_COMPLETED as ALL_COMPLETED
    from concurrent.futures import FIRST_COMPLETED as FIRST_COMPLETED
    from concurrent.futures import FIRST_EXCEPTION as FIRST_EXCEPTION
    from concurrent.futures import BrokenExecutor as BrokenExecutor
    from concurrent.futures import CancelledError as CancelledError
    from concurrent.futures import Executor as Executor
    from concurrent.futures import InvalidStateError as InvalidStateError
    from concurrent.futures import TimeoutError as TimeoutError

    from phalanx.concurrent.futures.process import ProcessPoolExecutor as ProcessPoolExecutor

__all__ = list(_std.__all__)


def __getattr__(name: str) -> object:
    if name == "ProcessPoolExecutor":
        from phalanx.concurrent.futures.process import ProcessPoolExecutor

        return ProcessPoolExecutor
    # What is not rebuilt here is the standard library's and is loaded only when asked for.
    if name == "InterpreterPoolExecutor" and not hasattr(_std, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: it needs Python 3.14")
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_std, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
