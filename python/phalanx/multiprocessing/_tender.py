"""The thread of a pool's master that does what happens while nobody waits: when it looks, and at what.

What it does there is the crew's. It sleeps on the sentinels of the workers and on the *bell*, which workers and other
threads ring; while there is something that nobody will ring for, it looks by itself: after a *beat* at bundles and at
those who hold tasks back, after a *tick* at tasks with a time limit.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time

from phalanx.multiprocessing import _start, _travel, _worker
from phalanx.multiprocessing._job import show
from phalanx.multiprocessing._reasons import reason as reason_of
from phalanx.multiprocessing._stall import Stall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from phalanx.multiprocessing._crew import Crew
    from phalanx.multiprocessing._job import Job

__all__ = ["GLANCE", "Tender"]

_NAP = 0.0005  # seconds between two looks while many tasks are under way
_MANY = 32
_TICK = 0.05  # seconds between two looks at tasks that have a time limit, at the most
_SHARE = 4  # so many looks during the shortest limit
_LEAST_TICK = 0.002
GLANCE = 0.02  # seconds between two looks in a callback that waits for a result
_SLOW = 1.0  # seconds between two looks while tasks are under way: a worker may have closed the bell
_BEAT = 0.005  # seconds between two looks at bundles
_EARLY = 3  # so many workers in a row that die before their first task, and the pool is broken
_PATIENCE = 1.0  # seconds from SIGTERM to SIGKILL
_AGAIN = 0.2  # seconds from a worker that could not be started to the next try
_HOPELESS = 10  # so many tries in a row while there is no worker at all, and the pool is broken


class Tender:
    """The thread that looks after a crew. Every method may be called from any thread."""

    def __init__(self, crew: Crew, reports: Any, initializer: Any) -> None:
        self._crew: Crew | None = crew
        self._reports = reports
        self._initializer = initializer
        self._near, self.far = socket.socketpair()  # `far` is for workers
        self._near.setblocking(False)
        self.bell = self.far.fileno()  # -1 once there is none
        self.ready: set[int] = set()  # pids of workers that have begun
        self._early = 0
        self._limited: set[Job] = set()  # tasks with a time limit
        self._tick = _TICK
        self.held: set[Any] = set()  # those who hold tasks back until a bundle is full: `flush()` posts them
        self.beating = False  # it looks at bundles
        self.looking = True  # it will look by itself, soon or late
        self._awake = True  # something has happened since it slept last
        self._kill_at: float | None = None
        self._hire_at: float | None = None
        self._stall = Stall()
        self._poll = select.poll()
        self._watched: dict[int, tuple[Any, int]] = {}  # file -> worker, and the pidfd to be closed
        self._failures = 0  # to start a worker, in a row
        self.thread: threading.Thread | None = None

    def start(self, name: str, daemon: bool) -> None:
        """Begin."""
        thread = threading.Thread(target=self._run, name=name, daemon=daemon)
        thread.start()
        self.thread = thread

    def ring(self) -> None:
        """Have it look now."""
        with contextlib.suppress(OSError):  # it has ended, or has enough to read
            self.far.send(b"!", socket.MSG_DONTWAIT)

    def beat(self) -> None:
        """Have it look at bundles, and at those who hold tasks back, from now on."""
        self.beating = True
        self.ring()

    def hold(self, holder: Any) -> None:
        """Have `holder.flush()` called in a while, unless it is let go before."""
        self.held.add(holder)
        if not self.beating:
            self.beat()

    def limit(self, job: Job) -> None:
        """A task with a time limit is about to be posted."""
        self._limited.add(job)
        self._tick = max(_LEAST_TICK, min(self._tick, (job._limit or _TICK) / _SHARE))

    def unlimit(self, job: Job) -> None:
        """It has ended."""
        self._limited.discard(job)
        if not self._limited:
            self._tick = _TICK

    def forget_limits(self) -> None:
        """All of them have ended."""
        self._limited = set()

    def kill_later(self) -> None:
        """The workers have been asked to end: those that do not are killed."""
        self._kill_at = time.monotonic() + _PATIENCE
        self.ring()

    def hire_soon(self) -> None:
        """Start the workers that are missing."""
        self._hire_at = time.monotonic()

    def hang_up(self) -> None:
        """Nobody rings any more, and the crew needs no look."""
        self.bell = -1
        self._near.close()
        self.far.close()
        self._crew = None

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        crew = self._crew
        assert crew is not None
        self._poll.register(self._near, select.POLLIN)
        while not crew.over:
            try:
                self._look(crew)
            except BaseException as error:
                # Without this thread everybody would wait for ever.
                if crew.broken is not None:
                    raise
                show()
                crew.give_up(_travel.told(error, None, f"the pool is broken: {type(error).__name__}: {error}"))
        crew.leave()

    def _look(self, crew: Crew) -> None:
        self._watch(crew)
        if crew.board.doze():
            events = self._poll.poll(self._how_long(crew))
            self._awake = bool(events)
            self._answer(crew, events)
        self._read_reports(crew)
        self._stall.look(crew)
        if crew.under_way or self.held:
            for holder in list(self.held):
                holder.flush()
            crew.look_at_bundles()
        if crew.collect() and crew.posted >= _MANY:
            time.sleep(_NAP)
        self._look_at_times(crew)
        kill = self._kill_at is not None and time.monotonic() >= self._kill_at
        if kill:
            self._kill_at = None
        crew.look_at_end(kill)

    def glance(self, crew: Crew) -> None:
        """What may have happened while this thread waits for a result itself, in a callback of the program."""
        self._watch(crew)
        self._answer(crew, self._poll.poll(0))
        self._stall.look(crew)
        if crew.under_way:
            crew.look_at_bundles()
        self._look_at_times(crew)

    def _watch(self, crew: Crew) -> None:
        """Have the end of each worker seen."""
        known = {worker for worker, _ in self._watched.values()}
        for worker in crew.workers:
            if worker not in known:
                pidfd = _pidfd(worker)
                file = worker.sentinel if pidfd < 0 else pidfd
                self._watched[file] = worker, pidfd
                self._poll.register(file, select.POLLIN)

    def _answer(self, crew: Crew, events: list[tuple[int, int]]) -> None:
        self._read_reports(crew)  # first: who has begun and then died has not died early
        for file, _ in events:
            if file in self._watched:
                self._poll.unregister(file)
                worker, pidfd = self._watched.pop(file)
                if pidfd >= 0:
                    os.close(pidfd)
                self._bury(crew, worker)
        with contextlib.suppress(BlockingIOError):
            while len(self._near.recv(4096)) == 4096:
                pass

    def _look_at_times(self, crew: Crew) -> None:
        if self._limited:
            crew.look_at_limits(list(self._limited))
        if self._hire_at is not None and time.monotonic() >= self._hire_at:
            self._hire(crew)

    def _how_long(self, crew: Crew) -> float | None:
        """Milliseconds until it has to look by itself."""
        self.looking = False  # first: who posts and still reads True is seen below
        waits = [at - time.monotonic() for at in (self._kill_at, self._hire_at) if at is not None]
        self.beating = False
        if crew.under_way or self.held:
            self.beating = True  # who adds one and still reads False rings
            waits.append(_BEAT)
        if self._limited:
            waits.append(self._tick)
        if crew.posted or self._awake or crew.is_upset:
            waits.append(_SLOW)
        self.looking = bool(waits)
        return max(0.0, min(waits)) * 1000 if waits else None

    def _read_reports(self, crew: Crew) -> None:
        while not self._reports.empty():
            pid, failure = self._reports.get()
            if failure is None:
                self.ready.add(pid)
                self._early = 0
            elif len(crew.workers) > crew.size:
                crew.spare = crew.most_spare = 0  # it was for as many as there are without one that can only be spared
            else:
                name = _worker.name_of(self._initializer)
                error, remote = _travel.rebuilt(failure, f"the initializer {name}")
                text = f"the initializer {name} raised {failure[2]} in a worker: {failure[3]}"
                crew.give_up(_travel.told(error, remote, text))

    def _bury(self, crew: Crew, worker: Any) -> None:
        """A worker has ended: look whether others would fare better."""
        seat, lost = crew.bury(worker)
        begun = worker.pid in self.ready
        self.ready.discard(worker.pid)
        if not crew.needs_workers:
            return
        if not begun and not lost:
            unguarded = _unguarded(worker)
            if unguarded is not None:
                crew.give_up(unguarded)
                return
            self._early += 1
            if self._early >= _EARLY and not self.ready:
                text = f"no worker of the pool comes to its first task: {reason_of(worker.exitcode)}"
                if self._initializer is not None:
                    text += f"\nhint: look at its initializer, {_worker.name_of(self._initializer)}"
                crew.give_up(_travel.told(None, None, text))
                return
        crew.staff.replaced(seat)
        if self._early < _EARLY:
            self._hire(crew)
        else:  # the others work, so this is no storm of processes that end at once
            self._hire_at = time.monotonic() + _AGAIN

    def _hire(self, crew: Crew) -> None:
        """Start the workers that are missing; where that fails, again in a while."""
        self._hire_at = None
        try:
            crew.hire()
        except Exception as error:  # no memory, or too many processes
            self._failures += 1
            self._hire_at = time.monotonic() + _AGAIN
            if not crew.workers and self._failures >= _HOPELESS:
                text = f"no worker of the pool can be started: {type(error).__name__}: {error}"
                crew.give_up(_travel.told(error, None, text))
        else:
            self._failures = 0


def _pidfd(worker: Any) -> int:
    """A file that says when a process ends, -1 if there is none. Its sentinel it may close, or a child may keep."""
    try:
        return os.pidfd_open(worker.pid)
    except (OSError, AttributeError):
        return -1


def _unguarded(worker: Any) -> BaseException | None:
    """The error for a worker that ended because importing the main module starts processes, if that is how it was."""
    failure = getattr(getattr(worker, "_popen", None), "failure", None)
    words = failure() if failure is not None and worker.exitcode == 1 else None
    return None if words is None else _start.unguarded(worker.name, *words)
