"""The crew of a `ThreadPool`: threads of this process, which take jobs from a queue. It does what `Crew` does."""

from __future__ import annotations

import os
import threading
from time import perf_counter

from phalanx import queue as _queue
from phalanx.multiprocessing import _worker
from phalanx.multiprocessing._job import show
from phalanx.threading import Condition, Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from phalanx.multiprocessing._job import Job

__all__ = ["ThreadCrew"]


class _Tally:
    """What one thread has done; times in seconds."""

    def __init__(self) -> None:
        self.tasks = 0
        self.busy = self.waiting = 0.0
        self._since = 0.0

    def lap(self) -> float:
        """The time since the last call."""
        now = perf_counter()
        spent, self._since = now - self._since, now
        return spent


class ThreadCrew:
    """Threads and their jobs. Every method may be called from any thread."""

    def __init__(
        self, size: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...], name: str
    ) -> None:
        self.size = size
        self._initializer = initializer
        self._initargs = initargs
        import phalanx._pool_errors  # noqa: F401  once the interpreter ends that cannot be loaded any more

        self._queue: Any = _queue.SimpleQueue()
        self._lock = Lock()
        self._news = Condition(self._lock)
        self._ending: BaseException | None = None
        self._waiting: set[Job] = set()
        self._running: set[Job] = set()
        self.closing = False
        self.terminated = False
        self._are_home = False  # the threads, or on their way
        self.broken: BaseException | None = None
        self.bundles = False
        self.feeders: set[Any] = set()
        self.board = self  # whom `tell()` is said to
        self._tallies = [_Tally() for _ in range(size)]
        self.workers = [
            threading.Thread(target=self._work, args=(tally,), name=f"{name}-{at}", daemon=True)
            for at, tally in enumerate(self._tallies)
        ]
        for worker in self.workers:
            worker.start()

    def fill(self) -> None:
        """Threads do not die."""

    is_foreign = False

    @property
    def end_error(self) -> BaseException | None:
        """What its jobs end with, if it was terminated or is broken."""
        return self.broken or self._ending

    def share(self, thing: Any) -> int:
        """Threads have every object as it is."""
        return 0

    def submit(self, job: Job, again: bool = False) -> None:
        """Hand a job in. With `again` it may have been handed in before."""
        with self._lock:
            if again and (job in self._waiting or job in self._running or job._ended):
                return
            if self.broken is not None or self.terminated or self._are_home:
                raise RuntimeError("the pool has ended") from self.broken
            self._queue.put(job)
            self._waiting.add(job)  # a thread looks here under the lock

    def _work(self, tally: _Tally) -> None:
        if self._initializer is not None:
            try:
                self._initializer(*self._initargs)
            except BaseException as error:
                self._break(error)
                return
        tally.lap()
        while (job := self._queue.get()) is not None:
            tally.waiting += tally.lap()
            self._one(job, tally)
            del job

    def _one(self, job: Job, tally: _Tally) -> None:
        with self._lock:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
            self._running.add(job)
            task = job._task
        timer = None
        if job._limit is not None:
            from phalanx._pool_errors import TaskTimeout

            text = f"{job._describe()} took longer than {job._limit:g} s; its thread goes on"
            timer = threading.Timer(min(job._limit, threading.TIMEOUT_MAX), self._give_up, (job, TaskTimeout(text)))
            timer.daemon = True
            timer.start()
        error: BaseException | None = None
        value: Any = None
        try:
            value = _worker.perform(*task[:4])
        except BaseException as raised:
            error = raised
        if timer is not None:
            timer.cancel()
        with self._lock:
            self._running.discard(job)
            told = not job._ended
            job._end()
            tally.tasks += 1
            tally.busy += tally.lap()
        if told:
            try:
                if error is None:
                    job._succeed(value)
                else:
                    job._fail(error, None)
            except BaseException:  # raised by a callback of the program: this thread is for the other jobs too
                show()
        del job, task, value, error
        self.tell()

    def _give_up(self, job: Job, error: BaseException) -> None:
        with self._lock:
            told = not job._ended
            job._ended = True
        if told:
            self._fail_all([job], error)
            self.tell()

    def statistics(self) -> list[dict[str, Any]]:
        """What each thread has done so far: see `Pool.statistics`. Nothing is copied for a thread: `bytes` is 0."""
        pid = os.getpid()
        return [
            {
                "worker": worker.name,
                "pid": pid,
                "tasks": tally.tasks,
                "busy": tally.busy,
                "waiting": tally.waiting,
                "bytes": 0,
                "restarts": 0,
            }
            for worker, tally in zip(self.workers, self._tallies, strict=True)
        ]

    def _break(self, error: BaseException) -> None:
        with self._lock:
            self.broken = error
            jobs, self._waiting = list(self._waiting), set()
            for job in jobs:
                job._ended = True
        self._fail_all(jobs, error)
        for feeder in list(self.feeders):
            feeder.drop(error)
        self.tell()

    @staticmethod
    def _fail_all(jobs: list[Job], error: BaseException) -> None:
        for job in jobs:
            try:
                job._fail(error, None)
            except BaseException:  # raised by a callback of the program: the others are to be told too
                show()
            job._end()

    def tell(self) -> None:
        """Something has ended: whoever waits looks again."""
        with self._news:
            self._news.notify_all()
            over = self.closing and not self._waiting and not self._running and not self.feeders
            self._are_home = self._are_home or over
        if over:
            self._send_home()

    def call_back(self) -> None:
        """Callbacks run in the pool's threads anyway."""

    def _send_home(self) -> None:
        for _ in self.workers:
            self._queue.put(None)

    def wait_for(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `done()`; False after `timeout` seconds."""
        with self._news:
            return self._news.wait_for(done, timeout)

    def revoke(self, job: Job, error: BaseException) -> bool:
        """Take back a job that no thread has begun, which the caller ends with `error`."""
        with self._lock:
            waiting = job in self._waiting
            self._waiting.discard(job)
            job._ended = job._ended or waiting
        return waiting

    def kill(self, job: Job, error: BaseException) -> bool:
        """A running thread cannot be ended."""
        return False

    def close(self) -> None:
        """Take no more jobs; threads end when all are done."""
        self.closing = True
        for feeder in list(self.feeders):
            feeder.make_room()
        self.tell()

    def terminate(self, error: BaseException | None = None) -> None:
        """Drop the jobs that no thread has begun; whoever waits for one gets `error`."""
        with self._lock:
            self.closing = self.terminated = True
            self._ending = error
            jobs = [job for job in (*self._waiting, *self._running) if not job._ended]
            self._waiting = set()
            for job in jobs:
                job._ended = True
        if error is not None:
            self._fail_all(jobs, error)
        for feeder in list(self.feeders):
            feeder.drop(error)
        self._send_home()
        self.tell()

    def join(self) -> None:
        """Wait for the threads."""
        for worker in self.workers:
            if worker is not threading.current_thread():
                worker.join()
