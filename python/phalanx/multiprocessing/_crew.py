"""The master's half of a pool of processes: its workers, the tasks in their hands, the thread that looks after both.

`Pool` and `ProcessPoolExecutor` are two faces of a `Crew`. Tasks and results lie on a board in shared memory (see
`crates/phalanx/src/pool/README.md`). Who waits for a result collects it itself; the crew's own thread, the *tender* in
`_tender.py`, does what happens while nobody waits: callbacks, deaths, time limits, tasks for which there was no room.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque

from phalanx import _core
from phalanx.multiprocessing import _blas, _travel, _worker
from phalanx.multiprocessing._bundles import Backlog, Bundle
from phalanx.multiprocessing._job import Job, in_main_thread, surely
from phalanx.multiprocessing._log import DROPPED, GONE
from phalanx.multiprocessing._staff import Staff, stop
from phalanx.multiprocessing._tender import GLANCE, Tender
from phalanx.multiprocessing._together import Together

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    _Found = tuple[Job, int, Any]

__all__ = ["Crew", "cancel", "processors"]

_ENOUGH = 32  # so many under way at least, and 2 for each worker, and those that come may wait for company
_PLENTY = 128  # so many at least, and 16 for each worker, and the others wait to be told how long they take

_here = os.getpid()  # asked at each submission, and a system call costs as much as the rest of it


def _in_child() -> None:
    global _here
    _here = os.getpid()


os.register_at_fork(after_in_child=_in_child)


class Crew(Together):
    """Workers and their tasks. Every method may be called from any thread."""

    def __init__(
        self,
        start: Callable[..., Any],
        size: int,
        *,
        style: int,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks: int | None = None,
        reports: Any,
        by_value: bool = False,
        lazy: bool = False,
        forget: Callable[[Any], None] | None = None,
        threads: int | None = None,
    ) -> None:
        import phalanx._pool_errors  # noqa: F401  once the interpreter ends that cannot be loaded any more

        super().__init__()
        threads = threads or _blas.share(size, processors())  # of BLAS in each worker
        _blas.prepare()
        self.size = size
        self._lazy = lazy  # workers are started as tasks come
        self.board = _core.Board()
        self._luggage = _travel.Luggage(by_value)
        self._lock = threading.RLock()
        self._jobs: dict[int, Job] = {}  # by their slots
        self._backlog = Backlog()
        self._full = False  # the board had no room for the backlog
        self._filling = False  # somebody posts what waits there
        self._fill_more = False  # and is to look again
        self._turn = 0  # grows when older ones are put before those that wait there
        self._enough = max(_ENOUGH, 2 * size)
        self._plenty = max(_PLENTY, 16 * size)
        self.tender = Tender(self, reports, initializer)  # after all that may fail: it has files
        self.board.hang(self.tender.bell)
        orders = (threads, self.board, self.tender.far, self._luggage.place, reports, style)
        self.staff = Staff(start, orders, (initializer, initargs, max_tasks), forget)
        self.workers = self.staff.workers
        self.closing = False
        self.is_shut = False  # no task is taken any more
        self.terminated = False
        self.broken: BaseException | None = None
        self._ending: tuple[BaseException | None] | None = None  # how it is being terminated
        self.spare = 0  # workers above `size`: see `_stall`
        self.most_spare = size
        self._bundles = max_tasks is None and not by_value
        self.bundles = self._bundles  # small tasks may travel together
        self.under_way: set[Bundle] = set()  # those of more than one task
        self.feeders: set[Any] = set()  # those that may still have tasks, although none is there
        self.owner = _here
        self.over = False

    # ---------------------------------------------------------------- workers

    def fill(self) -> None:
        """Start workers until there are `size`."""
        with self._lock:
            while len(self.workers) < self.size:
                self.staff.start()

    def grow(self, job: Job) -> None:
        """Start a worker if there are more tasks than workers. Without one `job`, the newest, cannot be done."""
        if self.owner != _here:
            return
        with self._lock:
            if len(self.workers) < min(self.size, self.unfinished):
                try:
                    self.staff.start()
                except BaseException as error:
                    if self.workers and isinstance(error, Exception):
                        return  # it is done by those that are there
                    self.revoke(job, error)
                    raise
                self.tender.ring()

    def waiting(self) -> list[Job]:
        """The jobs that no worker has begun, the newest first, but for one for each worker that is about to begin."""
        if self.owner != _here:
            return []
        with self._lock:
            return self._waiting()

    def _waiting(self) -> list[Job]:
        for job in list(self._jobs.values()):
            if isinstance(job, Bundle):
                self._take_back(job)
        jobs = [job for job in self._jobs.values() if not self.is_running(job)]
        jobs += [job for job in self._backlog if not job._is_stale]
        spared = sum(worker.pid not in self.tender.ready for worker in self.workers)
        return jobs[spared:][::-1]

    def tend(self, name: str, daemon: bool) -> None:
        """Start the tender, unless it is there."""
        with self._lock:
            if self.tender.thread is None:
                self.tender.start(name, daemon)

    def statistics(self) -> list[dict[str, Any]]:
        """What the workers of each seat have done so far: see `Pool.statistics`."""
        return self.staff.statistics(self.board)

    # ---------------------------------------------------------------- tasks

    @property
    def posted(self) -> int:
        """How many lie on the board."""
        return len(self._jobs)

    @property
    def unfinished(self) -> int:
        """How many tasks have not ended, and how many threads are telling that some have."""
        under_way = len(self._jobs) + len(self._backlog) + len(self._found) + len(self._delicate)
        return under_way + len(self._telling) + len(self.feeders)

    @property
    def needs_workers(self) -> bool:
        """Say whether there is, or may come, anything to do."""
        return not self.terminated and (not self.closing or self.unfinished > 0)

    def submit(self, job: Job, again: bool = False) -> None:
        """Hand a job in. What pickling raises ends the job. With `again` it may have been handed in before."""
        if self.owner != _here:
            self._help(job)
            return
        if again and self._has(job):
            return
        if self._backlog.jobs or (not job._alone and self.bundles and len(self._jobs) >= self._enough):
            self._hold_back(job)
        else:
            self._hand_in(job)
        if job._limit is not None:
            self.tender.ring()
        elif self.under_way and not self.tender.beating:
            self.tender.beat()
        elif not self.tender.looking:
            self.tender.ring()

    def _hand_in(self, job: Job) -> None:
        """Post a job where none waits. Little is done after that: its result is there in a few microseconds."""
        parcel, stray = self._parcel(job)
        with self._lock:
            self._refuse()
            posted = parcel is not None and not self._backlog.jobs and self._post(parcel, job)
            if parcel is not None and not posted:
                self._backlog.add(job)
        if not posted:
            self._fill()
        if stray is not None:
            raise stray

    def _has(self, job: Job) -> bool:
        return job._is_stale or (job._waits and any(one is job for one in self._backlog))

    def _refuse(self) -> None:
        """Raise if no job is taken any more."""
        if self.is_shut:
            raise self.broken or RuntimeError("the pool has ended")

    def _hold_back(self, job: Job) -> None:
        """Let a job wait for company: it goes with the next result, since some are under way.

        Without the lock, which whoever collects holds for long. Whoever empties what is under way looks at the backlog
        after that, whoever shuts the pool too; here the backlog is added to first. So one of the two sees the other.
        """
        more = self._backlog.hold(job)
        if self.is_shut:
            with self._lock:
                if not job._is_stale and not any(entry[0] is job for entry in self._found.copy()):
                    job._ended = True
                    self._refuse()
        if len(self._jobs) < self._enough or not (more or self._full or self._filling):
            self._fill()

    def _help(self, job: Job) -> None:
        # A worker that submits to the pool which it belongs to would wait for itself: it does the task itself.
        if isinstance(job, Bundle):
            for single in job.singles(0):
                self._help(single)
            job.close()
            job._end()
            return
        try:
            value = _worker.perform_within(*job._task)
        except BaseException as error:
            job._fail(error, None)
        else:
            job._succeed(value)
        job._end()

    def share(self, thing: Any, number: int | None = None) -> int:
        """Put an object where every worker finds it; return its number: the given one, or a new one."""
        if self.is_foreign:
            return 0  # calls are made here, with the object as it is
        return self._luggage.share(thing, number)

    @property
    def is_foreign(self) -> bool:
        """Say whether it is the crew of the process that this one was forked from."""
        return self.owner != _here

    @property
    def end_error(self) -> BaseException | None:
        """What its tasks end with, if it was terminated or is broken."""
        return self.broken or (self._ending and self._ending[0]) or None

    def _fill(self) -> None:
        """Post of the backlog what the board has room for. One thread at a time; the others leave it to that one.

        Pickling runs code of the program, which may wait for anything: so that is done without the lock.
        """
        mine = False
        stray: BaseException | None = None
        try:
            with self._lock:
                if self._filling:
                    self._fill_more = True
                    return
                self._filling = mine = True
            stray = self._fill_all()
            mine = False
        finally:
            if mine:  # interrupted: whoever comes by next goes on
                self._filling = False
                self.tender.ring()
        if stray is not None:
            raise stray

    def _fill_all(self) -> BaseException | None:
        stray: BaseException | None = None
        while True:
            self._fill_more = False
            if self.terminated:
                with self._lock:
                    self._drop([])  # what was put back meanwhile
            turn = self._turn
            job = self._backlog.peek(len(self._jobs) >= self._plenty)
            parcel, gone = None, False
            if job is not None and self.board.has_room():
                parcel, raised = self._parcel(job)
                stray = raised or stray
                gone = parcel is None
            with self._lock:
                again = gone or self._fill_more or turn != self._turn
                if parcel is not None and job is not None and turn == self._turn:
                    again = self._post(parcel, job) or again
                if not again:
                    self._full = len(self._backlog) > 0
                    self._filling = False
            if not again:
                return stray

    def _parcel(self, job: Job) -> tuple[Any, BaseException | None]:
        """What is to be posted for a job, or None if it cannot be; and what a signal handler has raised meanwhile."""
        parcel, error, stray = surely(self._packed, job)
        if error is not None:
            self._unpackable(job, error)
        return parcel, stray

    def _packed(self, job: Job) -> Any:
        if isinstance(job, Bundle):
            mode, number, *_ = self._luggage.pack(job)
            return self.board.pack_many(number, job.items, int(mode == _worker.STARMAP))
        return _travel.either_way(self.board.pack, lambda: self._luggage.pack(job), job._task)

    def _unpackable(self, job: Job, error: BaseException) -> None:
        """It cannot be pickled: of a bundle each task goes alone, and fares as it may."""
        if not isinstance(job, Bundle):
            with contextlib.suppress(BaseException):  # it pickles parts of it, which may raise anything again
                _travel.explain_task(error, job)
            # One step for signals, here and below: no call lies between.
            job._ended = True
            self._found.append((job, DROPPED, error))
        elif not job.is_company:
            job.close()  # first: whoever is interrupted comes here again
            with self._lock:
                self._take_apart(job, 0)
                job._ended = True
        else:
            self._backlog.shun(job)
        self.tender.ring()

    def _post(self, parcel: Any, job: Job) -> bool:
        """Under the lock: put a job on the board, out of the backlog. False: there is no room."""
        if self.terminated or job._is_stale:
            return True
        if isinstance(job, Bundle):
            if not job.is_whole:  # one was cancelled meanwhile
                self._backlog.forget(job)
                return True
            if len(job.items) > 1:
                self.under_way.add(job)
        else:
            job._bundle = None  # of one that was not posted
        if job._limit is not None:
            self.tender.limit(job)
        if not self.board.post(parcel, job, self._jobs):
            self.under_way.discard(job)
            self._backlog.forget(job)
            return False
        self._backlog.took(job)
        return True

    def revoke(self, job: Job, error: BaseException) -> bool:
        """Take back a job that no worker has begun. True: it will not run, and ends with `error`."""
        if self.owner != _here:  # the lock may have been held when this process was forked
            return False
        with self._lock:
            bundle = job._bundle
            if bundle is not None and bundle._slot is not None:
                self._take_back(bundle)
                if job._bundle is not None:
                    return False
            if job._ended:
                return False
            slot, entry = job._slot, (job, DROPPED, error)
            if slot is None:
                revoked = job._waits
                if revoked:
                    job._ended = True  # it is passed over; one step, as above
                    self._found.append(entry)
            else:
                revoked = slot >= 0 and self.board.revoke(slot, self._jobs, self._found, entry)
        if revoked:
            self._fill()
            self.tender.ring()
        return revoked

    def is_running(self, job: Job) -> bool:
        """Say whether a worker has taken it."""
        if self.owner != _here:
            return False
        if job._bundle is not None and job._bundle._slot is not None:
            with self._lock:
                return self._has_begun(job)[0]
        slot = job._slot
        return slot is not None and slot >= 0 and self.board.worker(slot) != 0

    def _has_begun(self, job: Job) -> tuple[bool, bool]:
        """Under the lock: whether a worker has begun that task of a bundle, and has ended it."""
        slot = None if job._bundle is None else job._bundle._slot
        begun, given = (slot is not None and slot >= 0 and self.board.progress(slot)) or (0, 0)
        return begun > job._at, given > job._at

    def kill(self, job: Job, error: BaseException) -> bool:
        """End a job that a worker has begun, with its worker; its caller gets `error` once the worker is gone.

        False: it is not running.
        """
        if self.owner != _here:
            return False
        if not in_main_thread():
            return self._kill(job, error)
        # A signal handler that raises in the middle would leave the worker stopped.
        answer: list[bool] = []
        helper = threading.Thread(target=lambda: answer.append(self._kill(job, error)), daemon=True)
        helper.start()
        helper.join()
        return answer == [True]

    def _kill(self, job: Job, error: BaseException) -> bool:
        with self._lock:
            bundled = job._bundle is not None
            where: int | None = job._bundle._slot if bundled else job._slot
            slot = GONE if where is None else where
            number = self.board.worker(slot) if slot >= 0 else 0
            if not number or job._ended or job._doom is not None:
                return False
            pid = _core.Peer(number).life()[0]
            # It must not finish this task and begin another one between the look and the kill.
            stopped = stop(pid) and self.board.worker(slot) == number
            if not stopped or (bundled and self._has_begun(job) != (True, False)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                return False
            job._doom = error
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return True

    # ---------------------------------------------------------------- results

    def collect(self) -> int:
        """End the jobs whose results have come; return how many have."""
        n = 0
        if self.board.has_done():
            with self._lock:
                n = self.board.collect(self._jobs, self._found)
            if self._backlog:
                self._fill()
                if self.under_way and not self.tender.beating:
                    self.tender.beat()
        self._settle()
        return n

    def _may_collect(self) -> bool:
        return not self._calls_back or self.over or threading.current_thread() is self.tender.thread

    def wait_for(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Collect until `done()`; False after `timeout` seconds.

        RuntimeError in another process than the one that made the pool: what it collected would be lost there.
        """
        if self.owner != _here:
            raise RuntimeError(
                f"the result of this call goes to process {self.owner}, where it was submitted before a fork\n"
                "hint: wait for it there, or submit it here"
            )
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._may_collect():
            try:
                # First thing inside: for signals one step with the beginning of the block.
                self.board.heed(True, self.tender.bell)
                ended = self._collect_until(done, deadline)
            finally:
                self.board.heed(False, self.tender.bell)
            if ended is not None:
                return ended
        self._resume()
        with self._told:
            return self._told.wait_for(done, None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _resume(self) -> None:
        """Whoever came last may have been interrupted before anything was posted."""
        if self._backlog.jobs and not (self._full and self._jobs):
            self._fill()

    def _collect_until(self, done: Callable[[], bool], deadline: float | None) -> bool | None:
        """None: only the tender may collect from now on."""
        board = self.board
        tending = threading.current_thread() is self.tender.thread
        self._resume()
        while self._may_collect():
            seen = board.news
            self.collect()
            if done():
                return True
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if tending:
                board.wait_done(seen, GLANCE if left is None else min(left, GLANCE))
                self.tender.glance(self)
            elif left is None:
                board.wait_done(seen)
            else:
                board.wait_done(seen, left)
        return None

    # ---------------------------------------------------------------- what the tender does

    def give_up(self, error: BaseException) -> None:
        """No worker can begin: every task ends with the reason."""
        with self._lock:
            if self.broken is not None:
                return
            self.broken = error
            self._drop_all()
        for feeder in list(self.feeders):
            feeder.drop(error)
        self._settle()

    def bury(self, worker: Any) -> tuple[int | None, bool]:
        """A worker has ended. Return where it sat, and whether a task was lost with it."""
        # Reaped first, so that the tree knows how it ended.
        worker.join()
        with self._lock:
            seat = self.staff.leave(worker, forget=not self.closing)
            lost = self.board.bury(self._jobs, self._found, [worker, *self.workers])
        self._settle()
        return seat, lost > 0

    def hire(self) -> None:
        """Start the workers that are missing. Raises what starting a process raises."""
        try:
            with self._lock:
                while self.needs_workers and len(self.workers) < self.spare + min(
                    self.size, max(1, self.unfinished) if self._lazy else self.size
                ):
                    self.staff.start()
        finally:
            self._fill()

    def look_at_limits(self, limited: list[Job]) -> None:
        """End what has been running for longer than it may."""
        from phalanx._pool_errors import TaskTimeout

        now = time.monotonic()
        for job in limited:
            if job._ended:
                self.tender.unlimit(job)
            if job._limit is None or not self.is_running(job):
                continue
            if not job._began:
                job._began = now
            elif now - job._began >= job._limit:
                text = f"{job._describe()} took longer than {job._limit:g} s; its worker was ended"
                self.kill(job, TaskTimeout(text))

    def look_at_end(self, kill: bool) -> None:
        """Send the workers home once all is done, kill those that will not end, and say when it is over."""
        if self._ending is not None and not self.terminated:
            self.terminate(*self._ending)  # whoever began that was interrupted
        if self._backlog:
            self._fill()
        if self.closing and self.spare:
            self.dismiss()  # one may never come to its first task
        with self._lock:
            if self.closing and not self.unfinished and not self.terminated:
                self.board.close()
            if kill and self.terminated:
                for worker in self.workers:
                    worker.kill()
            told = not self._found and not self._delicate
            if not self.workers and told and (self.terminated or (self.closing and not self.unfinished)):
                self.over = self.is_shut = True

    def leave(self) -> None:
        """The tender goes."""
        with self._lock:
            self.tender.hang_up()

    # ---------------------------------------------------------------- the end

    def shut(self) -> None:
        """Take no task any more."""
        if self.owner == _here:  # else a thread of the owner may have had the lock when it forked
            with self._lock:
                self.is_shut = True

    def close(self) -> None:
        """No more tasks are to come but those of maps under way; workers go home when all are done."""
        self.closing = True
        for feeder in list(self.feeders):
            feeder.make_room()
        self.tender.ring()

    def terminate(self, error: BaseException | None = None) -> None:
        """End the workers now. Whoever waits for a task gets `error`."""
        if self.owner != _here:
            return
        self._ending = self._ending or (error,)
        with self._lock:
            if self.terminated:
                return
            self._drop_all()
        for feeder in list(self.feeders):
            feeder.drop(error)
        self._settle()
        if self.tender.thread is None:
            for worker in self.workers:
                worker.join()
            self.over = True
            self.leave()

    def _drop_all(self) -> None:
        """Under the lock: end the workers. The jobs that this leaves without one end with the pool, or are nobody's."""
        self.closing = self.is_shut = True  # first: see `_hold_back`
        self.board.close()
        for worker in self.workers:
            with contextlib.suppress(ValueError):  # closed by the program
                worker.terminate()
        self.tender.kill_later()
        self.tender.forget_limits()
        self._drop([*self._jobs.values()])

    def _drop(self, jobs: list[Job]) -> None:
        """Under the lock: these jobs, and all of the backlog, end with what the pool ends with."""
        empty: deque[Job] = deque()
        error = self.end_error
        entries = [(job, DROPPED, error) for job in (*jobs, *self._backlog) if not job._ended and error is not None]
        # One step for signals.
        found = self._found
        found += entries
        self._jobs = {}
        self._backlog.jobs = empty
        self.terminated = True
        if entries:
            self.tender.ring()

    def join(self) -> None:
        """Wait until the tender has seen the last worker end."""
        thread = self.tender.thread
        if thread is not None and thread is not threading.current_thread():
            self.tender.ring()  # whoever closed it may have been interrupted
            thread.join()


def cancel(crew: Any, job: Job, error: BaseException, running: bool = False) -> bool:
    """Prevent a job of a crew of any kind, or end it where it is `running`; its caller gets `error`."""
    if crew.revoke(job, error):
        job._fail(error, None)  # at once, whoever else would come by
        job._end()
        crew.tell()
        return True
    return running and bool(crew.kill(job, error))


def processors() -> int:
    """How many processors this process may use: so many workers a pool has by default."""
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1
