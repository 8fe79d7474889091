"""What a pool tells when a task ends in another way than by its function's own doing.

`WorkerDied` and `RemoteError` are a `BrokenProcessPool` too, for programs that catch that; the pool itself goes on.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from multiprocessing import TimeoutError as PoolTimeoutError

from phalanx.errors import PhalanxError

__all__ = ["RemoteError", "TaskTimeout", "WorkerDied"]


class TaskTimeout(TimeoutError, PoolTimeoutError):
    """A task took longer than its time limit. Caught by both names: the built-in one, and `multiprocessing`'s."""

    __module__ = "phalanx._pool_errors"


class WorkerDied(PhalanxError, BrokenProcessPool):
    """A worker ended with this task in its hands. No other task is touched, and a new worker takes its place.

    - `task`: the call, as far as it is short
    - `worker`: the name of the process
    - `pid`: its process id
    - `reason`: how it ended, in words
    - `last_event`: how far it had come with the task, and how many seconds before

    It holds text and numbers only, so it may be pickled.
    """

    __module__ = "phalanx"

    def __init__(
        self, text: str = "", *, task: str = "", worker: str = "", pid: int = 0, reason: str = "", last_event: str = ""
    ) -> None:
        super().__init__(text)
        self.task = task
        self.worker = worker
        self.pid = pid
        self.reason = reason
        self.last_event = last_event


class RemoteError(PhalanxError, BrokenProcessPool):
    """What a task raised or returned in its worker, where that cannot be brought here as it is.

    - `type_name`: the class, as ``module.Name``
    - `text`: its `str()`
    - `traceback`: the worker's traceback, or ""
    """

    __module__ = "phalanx"

    def __init__(self, message: str = "", *, type_name: str = "", text: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback
