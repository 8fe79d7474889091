"""The joblib backend: `joblib.parallel_config(backend="phalanx")`, or `backend="phalanx"` in a `Parallel`.

It is there after `import phalanx`, or any part of it, in whatever order with joblib, and under `phalanx run`. Workers
are fresh interpreters that do not import the program's main module, and stay for the next `Parallel` with as many jobs;
functions, arguments and results go by value through cloudpickle, as with joblib's own backend.

A worker that dies costs the batch in its hands: `phalanx.WorkerDied`, or with `retries` the batch runs again elsewhere.
Large arrays come as copies of their own, which may be written to, not as memory maps: `max_nbytes`, `mmap_mode` and
`temp_folder` are of no effect. Within a worker joblib uses threads, and one more level down no further parallelism.

Parameters, of `parallel_config` or `Parallel`, beside joblib's own: `retries` and `memory` as in `Pool.options`,
`start_method`, `idle_worker_timeout` in seconds.
"""

from __future__ import annotations

import os
import pickle
import threading
import traceback
import weakref
from concurrent.futures import CancelledError
from multiprocessing import process

import cloudpickle  # type: ignore[import-untyped]
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from phalanx.concurrent.futures._reusable import ReusableExecutor
from phalanx.multiprocessing import _shared, get_context
from phalanx.multiprocessing._bare import BareContext
from phalanx.multiprocessing._crew import cancel, processors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["PhalanxBackend"]

_lock = threading.RLock()
# For each kind one, which is never replaced: a generator may still draw from it while another `Parallel` runs.
_executors: dict[tuple[Any, ...], ReusableExecutor] = {}
_parents: list[ReusableExecutor] = []  # of the process that this one was forked from


def _executor(n_jobs: int, context: str | None, timeout: float | None, threads: int | None) -> ReusableExecutor:
    kind = (n_jobs, context, timeout, threads)
    with _lock:
        executor = _executors.get(kind)
        if executor is None or executor._broken or executor._shutdown_thread:
            chosen = BareContext() if context is None else get_context(context)
            executor = _executors[kind] = ReusableExecutor(n_jobs, chosen, timeout, threads=threads)
        return executor


def _in_child() -> None:
    global _lock
    _lock = threading.RLock()
    _parents.extend(_executors.values())
    _executors.clear()


os.register_at_fork(after_in_child=_in_child)


class _Packed:
    """A batch, as it goes to a worker; what comes back is pickled, with the worker's traceback if it raised."""

    def __init__(self, batch: Callable[[], Any]) -> None:
        self._batch = batch
        self.__qualname__ = "a batch of joblib"

    def __call__(self) -> bytes:
        try:
            done = (True, self._batch(), "")
        except Exception as error:
            done = (False, error, traceback.format_exc())
            try:
                packed: bytes = cloudpickle.dumps(done, 5)
                pickle.loads(packed)
            except Exception:
                raise error from None  # what it is, the pool can tell
            return packed
        result: bytes = cloudpickle.dumps(done, 5)
        return result


class _RemoteTraceback(Exception):
    """The worker's traceback, as the cause of what was raised there."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class PhalanxBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """What joblib calls."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    supports_sharedmem = False
    uses_threads = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many workers there are for `n_jobs`: 1 within a worker, or a daemon."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or _shared.is_worker() or process.current_process().daemon:
            return 1
        return n_jobs if n_jobs > 0 else max(processors() + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        **given: Any,
    ) -> int:
        """Take the executor for `n_jobs`, with joblib's parameters and ours."""
        self.parallel = parallel
        given = {**self.backend_kwargs, **given}
        options = {name: given[name] for name in ("retries", "memory") if given.get(name) is not None}
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1 and (not options or process.current_process().daemon):
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        timeout = given.get("idle_worker_timeout", 300)
        executor = _executor(n_jobs, given.get("start_method"), timeout, self.inner_max_num_threads)
        self._crew_of = executor
        self._view: Any = executor.options(**options)
        self._futures: weakref.WeakSet[Any] = weakref.WeakSet()
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Any:
        """Hand a batch to a worker."""
        future = self._view.submit(_Packed(func))
        self._futures.add(future)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Any) -> Any:
        """Return what a batch returned, or raise what it raised."""
        success, value, trace = pickle.loads(future.result())
        if success:
            return value
        value.__cause__ = _RemoteTraceback(trace)
        raise value

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002  we always are
        """Drop the batches that no worker has begun, and end the workers of those that run."""
        for future in list(self._futures):
            if not future._ended:
                cancel(future._crew, future, CancelledError(), running=True)

    def terminate(self) -> None:
        """Let the executor go; its workers stay for the next call."""
        self._view = None
        self.reset_batch_stats()
