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
from phalanx.multiprocessing._deaths import worker_died
from phalanx.multiprocessing._job import Forgiving, Job, show
from phalanx.multiprocessing._staff import Staff, stop
from phalanx.multiprocessing._tender import Tender
from phalanx.threading import Condition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    _News = tuple[Bundle, tuple[Any, ...] | None]
    _Found = tuple[Job, int, Any]

__all__ = ["Crew", "cancel", "processors"]

_ENOUGH = 32  # so many under way at least, and 2 for each worker, and those that come may wait for company
_PLENTY = 128  # so many at least, and 16 for each worker, and the others wait to be told how long they take

# What has become of a job. The first four are the board's words; news are of a bundle that is still under way.
_VALUE, _FAILURE, _UNREADABLE, _BUNDLE, _NEWS, _LOST, _DROPPED = range(7)

_here = os.getpid()  # asked at each submission, and a system call costs as much as the rest of it


def _in_child() -> None:
    global _here
    _here = os.getpid()


os.register_at_fork(after_in_child=_in_child)


class Crew:
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
        threads = threads or _blas.share(size, processors())  # of BLAS in each worker
        _blas.prepare()
        self.size = size
        self._lazy = lazy  # workers are started as tasks come
        self.board = _core.Board()
        self._luggage = _travel.Luggage(by_value)
        self._lock = threading.RLock()
        self._jobs: dict[int, Job] = {}
        self._backlog = Backlog()
        self._full = False  # the board had no room for the backlog
        self._enough = max(_ENOUGH, 2 * size)
        self._plenty = max(_PLENTY, 16 * size)
        self.tender = Tender(self, reports, initializer)  # after all that may fail: it has files
        orders = (threads, self.board, self.tender.far, self._luggage.place, reports, style)
        self.staff = Staff(start, orders, (initializer, initargs, max_tasks), forget)
        self.workers = self.staff.workers
        self.closing = False
        self.is_shut = False  # no task is taken any more
        self.terminated = False
        self.broken: BaseException | None = None
        self._found: deque[_Found] = deque()  # jobs that have ended, to be told so by whoever comes by: see `_settle`
        self._calls_back = False  # callbacks of the program run when jobs end
        self._told = Condition()
        self.bundles = max_tasks is None and not by_value  # small tasks may travel together
        self.bundled = 0  # bundles under way, of more than one task
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
                    self.revoke(job)
                    raise
                self.tender.ring()

    def waiting(self) -> list[Job]:
        """The jobs that no worker has begun, the newest first, but for one for each worker that is about to begin."""
        if self.owner != _here:
            return []
        with self._lock:
            news = [self._take_back(job) for job in list(self._jobs.values()) if isinstance(job, Bundle)]
            jobs = [job for job in self._jobs.values() if not self.is_running(job)] + list(self._backlog)
            spared = sum(worker.pid not in self.tender.ready for worker in self.workers)
        self._pass_on(news)
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
        """How many tasks have not ended."""
        return len(self._jobs) + len(self._backlog) + len(self._found) + len(self.feeders)

    @property
    def needs_workers(self) -> bool:
        """Say whether there is, or may come, anything to do."""
        return not self.terminated and (not self.closing or self.unfinished > 0)

    def submit(self, job: Job) -> None:
        """Hand a job in. What pickling raises ends the job."""
        if self.owner != _here:
            self._help(job)
            return
        if self.bundles and not job._alone and len(self._jobs) >= self._enough:
            self._hold_back(job)
        else:
            with self._lock:
                self._refuse()
                self._enqueue(job)
        if job._limit is not None:
            self.tender.ring()
        elif self.bundled and not self.tender.beating:
            self.tender.beat()

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
        if self.is_shut or len(self._jobs) < self._enough:
            with self._lock:
                if self.is_shut and self._backlog.remove(job):
                    self._refuse()
                self._refill()
        elif not more and not self._full and self._lock.acquire(blocking=False):
            # Who has the lock collects, and there will be another result after that one.
            try:
                self._refill()
            finally:
                self._lock.release()

    def _help(self, job: Job) -> None:
        # A worker that submits to the pool which it belongs to would wait for itself: it does the task itself.
        if isinstance(job, Bundle):
            for single in job.singles(0):
                self._help(single)
            job._end()
            return
        try:
            value = _worker.perform(*job._task[:4])
        except BaseException as error:
            job._end()
            job._fail(error, None)
        else:
            job._end()
            job._succeed(value)

    def share(self, thing: Any) -> int:
        """Put an object where every worker finds it; return its number."""
        with self._lock:
            return self._luggage.share(thing)

    def _post(self, job: Job) -> bool:
        """Under the lock: put a job on the board. False: there is no room."""
        if isinstance(job, Bundle):
            return self._post_bundle(job)
        try:
            slot = _travel.either_way(self.board.post, lambda: self._luggage.pack(job), job._task)
        except Exception as error:
            _travel.explain_task(error, job)
            self._found.append((job, _DROPPED, error))
            self.tender.ring()
            return True
        if slot is None:
            return False
        job._slot = slot
        self._jobs[slot] = job
        if job._limit is not None:
            self.tender.limit(job._limit)
        return True

    def _post_bundle(self, job: Bundle) -> bool:
        try:
            mode, number, *_ = self._luggage.pack(job)
            slot = self.board.post_many(number, job.items, int(mode == _worker.STARMAP))
        except Exception:  # one of them cannot be pickled: each goes alone, and fares as it may
            self._backlog.shun(job._function)
            job._end()
            for single in job.singles(0):
                self._enqueue(single)
            return True
        if slot is None:
            return False
        job._slot = slot
        self._jobs[slot] = job
        self.bundled += len(job.items) > 1
        return True

    def _enqueue(self, job: Job) -> None:
        """Under the lock: put a job on the board, or behind those that wait for room."""
        if self._backlog or not self._post(job):
            self._backlog.add(job)

    def _refill(self) -> None:
        """Under the lock: post of the backlog what the board has room for."""
        while self._backlog and self.board.has_room():
            if len(self._jobs) >= self._plenty and self._backlog.is_learning():
                break
            job = self._backlog.next()
            if not self._post(job):
                self._backlog.put_back(job)
                break
        self._full = bool(self._backlog)

    def revoke(self, job: Job) -> bool:
        """Take back a job that no worker has begun. True: it will not run, and nobody else will end it."""
        if self.owner != _here:  # the lock may have been held when this process was forked
            return False
        news: list[_News] = []
        try:
            with self._lock:
                if job._bundle is not None:
                    news.append(self._take_back(job._bundle))
                if job._ended:
                    return False
                if job._slot is None:
                    if not self._backlog.remove(job):
                        return False
                else:
                    if not self.board.revoke(job._slot):
                        return False
                    del self._jobs[job._slot]
                    if job._limit is not None:
                        self.tender.unlimit()
                job._end()
                self._refill()
        finally:
            self._pass_on(news)
        return True

    def _take_back(self, bundle: Bundle) -> _News:
        """Under the lock: what no worker has begun of a bundle goes alone. What is returned is to be told."""
        slot = bundle._slot
        if slot is None:
            return bundle, None
        begun, outcome = 0, None
        if self.board.revoke(slot):
            del self._jobs[slot]
            self._one_bundle_less(bundle)
            bundle._end()
        else:
            outcome = self.board.cut(slot)
            if outcome is None:
                return bundle, None
            begun = outcome[2]
        singles = bundle.singles(begun)
        bundle.kept = min(bundle.kept, begun)
        for single in singles:
            self._enqueue(single)
        return bundle, outcome

    def _keep(self, news: list[_News]) -> None:
        """What `_take_back()` has found is to be told."""
        self._found += [(bundle, _NEWS, outcome) for bundle, outcome in news if outcome is not None]

    def _pass_on(self, news: list[_News]) -> None:
        """The same, by the tender: this thread is not one that waits for results."""
        self._keep(news)
        if news:
            self.tender.ring()

    def is_running(self, job: Job) -> bool:
        """Say whether a worker has taken it."""
        if self.owner != _here:
            return False
        if job._bundle is not None:
            with self._lock:
                return self._has_begun(job)[0]
        slot = job._slot
        return slot is not None and self.board.worker(slot) != 0

    def _has_begun(self, job: Job) -> tuple[bool, bool]:
        """Under the lock: whether a worker has begun that task of a bundle, and has ended it."""
        slot = None if job._bundle is None else job._bundle._slot
        begun, given = (slot is not None and self.board.progress(slot)) or (0, 0)
        return begun > job._at, given > job._at

    def kill(self, job: Job, error: BaseException) -> bool:
        """End a job that a worker has begun, with its worker; its caller gets `error` once the worker is gone.

        False: it is not running.
        """
        if self.owner != _here:
            return False
        with self._lock:
            bundled = job._bundle is not None
            slot = job._bundle._slot if bundled else job._slot
            number = self.board.worker(slot) if slot is not None else 0
            if slot is None or not number or job._ended or job._doom is not None:
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

    def _off(self, slot: int) -> Job:
        """Under the lock: the job that lay in a slot, where others may lie from now on."""
        job = self._jobs.pop(slot)
        job._slot = None
        return job

    def collect(self) -> int:
        """End the jobs whose results have come; return how many have."""
        n = 0
        if self.board.has_done():
            with self._lock:
                came = [(self._off(slot), kind, value) for slot, kind, value in self.board.collect()]
                self._found += came
                n = len(came)
                del came
                if self._backlog:
                    self._refill()
                    if self.bundled and not self.tender.beating:
                        self.tender.beat()
        self._settle()
        return n

    def _settle(self) -> None:
        """End the jobs that have been found to have ended.

        Not under the lock: callbacks of the program run, which may want it together with locks of their own. What they
        raise, and what signals raise, goes to this thread, unless it is the tender; the rest is left for the next one.
        """
        found = self._found
        if not found:
            return
        try:
            while found:
                try:
                    job, kind, value = found.popleft()
                except IndexError:  # another thread was faster
                    break
                try:
                    self._settle_one(job, kind, value)
                except BaseException:
                    self._put_back(job, kind, value)
                    if threading.current_thread() is not self.tender.thread:
                        raise
                    show()
                del job, value  # a result goes as soon as its job has it
        finally:
            self.tell()
            if self.closing or found:
                self.tender.ring()

    def _put_back(self, job: Job, kind: int, value: Any) -> None:
        """What was interrupted is told again, but for what was told already."""
        if kind in (_BUNDLE, _NEWS) and isinstance(job, Bundle):
            self._found.extendleft((single, _VALUE, left) for single, left in job.left(value))
        elif not job._ended and not job._interrupted:
            job._interrupted = True
            self._found.appendleft((job, kind, value))

    def _settle_one(self, job: Job, kind: int, value: Any) -> None:
        if kind == _BUNDLE:
            if isinstance(job, Bundle):  # else the pool was ended meanwhile
                with self._lock:  # any thread may collect
                    self._one_bundle_less(job)
                job._end()
                job.take(value, self._found, whole=True)
            return
        if kind == _NEWS:
            job.take(value, self._found, whole=False)  # type: ignore[attr-defined]
            return
        if kind != _DROPPED and job._limit is not None:
            with self._lock:
                self.tender.unlimit()
        if kind == _VALUE:
            job._end()
            job._succeed(value)
            return
        remote = None
        if kind == _DROPPED:
            error = value
        elif kind == _LOST:
            if job._doom is None and job._tries > 0 and not self.terminated:
                self._run_again(job)
                return
            error = job._doom or worker_died(job._describe(), *value)
        elif kind == _UNREADABLE:
            error = _travel.unreadable(value, job._describe())
        elif self._again(job, value):
            return
        else:
            error, remote = _travel.rebuilt(value, job._describe())
        job._end()
        job._fail(error, remote)

    def _run_again(self, job: Job) -> None:
        job._tries -= 1
        with self._lock:
            job._began = 0.0
            self._backlog.add(job)
            self._refill()

    def _one_bundle_less(self, bundle: Bundle) -> None:
        self.bundled = max(0, self.bundled - (len(bundle.items) > 1))

    def _again(self, job: Job, failure: _worker.Failure) -> bool:
        """A task of which the worker does not know a function or a class goes once more, by value."""
        unknown = failure[2] in ("AttributeError", "ModuleNotFoundError", "ImportError", "KeyError")
        if failure[4] != _worker.LOADING or not unknown or job._by_value or self._luggage.by_value:
            return False
        job._by_value = True
        with self._lock:
            self._enqueue(job)
        return True

    def tell(self) -> None:
        """Something has ended: whoever waits looks again."""
        self.board.tell()
        if self._calls_back:
            with self._told:
                self._told.notify_all()

    def call_back(self) -> None:
        """Callbacks of the program are to run from now on: by the tender alone, never by one that waits for a result.

        It may have to do what the callback waits for, or hold a lock that it wants.
        """
        if not self._calls_back:
            self._calls_back = True
            self.board.tell()

    def _may_collect(self) -> bool:
        return not self._calls_back or threading.current_thread() is self.tender.thread

    def wait_for(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Collect until `done()`; False after `timeout` seconds.

        RuntimeError in another process than the one that made the pool: what it collected would be lost there.
        """
        if self.owner != _here:
            raise RuntimeError(
                f"the result of this call goes to process {self.owner}, where it was submitted before a fork\n"
                "hint: wait for it there, or submit it here"
            )
        board = self.board
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._may_collect():
            board.heed(True, self.tender.bell)
            try:
                while self._may_collect():
                    seen = board.news
                    self.collect()
                    if done():
                        return True
                    if deadline is None:
                        board.wait_done(seen)
                    else:
                        left = deadline - time.monotonic()
                        if left <= 0:
                            return False
                        board.wait_done(seen, left)
            finally:
                board.heed(False, self.tender.bell)
        with self._told:
            return self._told.wait_for(done, None if deadline is None else max(0.0, deadline - time.monotonic()))

    # ---------------------------------------------------------------- what the tender does

    def give_up(self, error: BaseException) -> None:
        """No worker can begin: every task ends with the reason."""
        with self._lock:
            if self.broken is not None:
                return
            self.broken = error
            self._drop_all(error)
        self._settle()

    def bury(self, worker: Any) -> tuple[int | None, bool]:
        """A worker has ended. Return where it sat, and whether a task was lost with it."""
        # Reaped first, so that the tree knows how it ended.
        worker.join()
        with self._lock:
            seat = self.staff.leave(worker, forget=not self.closing)
            finished, lost, bundles = self.board.collect_from_the_dead()
            found: list[_Found] = []
            for slot in finished:
                _, kind, value = self.board.reap(slot)
                found.append((self._off(slot), kind, value))
            gone = [(self._off(slot), last) for slot, *last in lost]
            for slot, *last in bundles:
                _, kind, value = self.board.reap(slot)
                job = self._off(slot)
                found.append((job, kind, value))
                if isinstance(job, Bundle):
                    given, begun = value[0] + len(value[1]), value[2]
                    gone += [(job.single(at), last) for at in range(given, begun)]
                    self._backlog.add(*job.singles(begun))
            others = [worker, *self.workers]
            self._found += found + [(job, _LOST, (*last, others)) for job, last in gone]
        self._settle()
        return seat, bool(gone)

    def hire(self) -> None:
        """Start the workers that are missing. Raises what starting a process raises."""
        try:
            with self._lock:
                while self.needs_workers and len(self.workers) < min(
                    self.size, max(1, self.unfinished) if self._lazy else self.size
                ):
                    self.staff.start()
        finally:
            with self._lock:
                self._refill()

    def look_at_bundles(self) -> None:
        """Tell what has ended in front of a slow task; let an idle worker have what others have not begun."""
        news: list[_News] = []
        with self._lock:
            self._refill()
            starving = self.board.is_starving()
            for job in list(self._jobs.values()):
                if isinstance(job, Bundle) and self.is_running(job):
                    assert job._slot is not None
                    if job.seen:
                        news.append(self._take_back(job) if starving else (job, self.board.look(job._slot)))
                    job.seen = True
        self._keep(news)

    def look_at_limits(self) -> None:
        """End what has been running for longer than it may."""
        from phalanx._pool_errors import TaskTimeout

        now = time.monotonic()
        for job in list(self._jobs.values()):
            if job._limit is None or not self.is_running(job):
                continue
            if not job._began:
                job._began = now
            elif now - job._began >= job._limit:
                text = f"{job._describe()} took longer than {job._limit:g} s; its worker was ended"
                self.kill(job, TaskTimeout(text))

    def look_at_end(self, kill: bool) -> None:
        """Send the workers home once all is done, kill those that will not end, and say when it is over."""
        with self._lock:
            if self.closing and not self.unfinished and not self.terminated:
                self.board.close()
            if kill and self.terminated:
                for worker in self.workers:
                    worker.kill()
            if not self.workers and (self.terminated or (self.closing and not self.unfinished)):
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
        with self._lock:
            if self.terminated:
                return
            self._drop_all(error)
        self._settle()
        if self.tender.thread is None:
            for worker in self.workers:
                worker.join()
            self.over = True
            self.leave()

    def _drop_all(self, error: BaseException | None) -> None:
        """Under the lock: end the workers. The jobs that this leaves without one end with `error`, or are nobody's."""
        self.closing = self.terminated = self.is_shut = True  # first: see `_hold_back`
        jobs = [*self._jobs.values(), *self._backlog.drain()]
        self._jobs = Forgiving()
        self.tender.forget_limits()
        self.bundled = 0
        self.board.close()
        for worker in self.workers:
            with contextlib.suppress(ValueError):  # closed by the program
                worker.terminate()
        self.tender.kill_later()
        if error is not None:
            self._found += [(job, _DROPPED, error) for job in jobs]

    def join(self) -> None:
        """Wait until the tender has seen the last worker end."""
        thread = self.tender.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()


def cancel(crew: Any, job: Job, error: BaseException, running: bool = False) -> bool:
    """Prevent a job of a crew of any kind, or end it where it is `running`; its caller gets `error`."""
    if crew.revoke(job):
        job._fail(error, None)
        crew.tell()
        return True
    return running and bool(crew.kill(job, error))


def processors() -> int:
    """How many processors this process may use: so many workers a pool has by default."""
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1
