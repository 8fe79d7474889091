"""The log of a pool's master: what has become of its jobs, and how that is told.

The protocol is in `crates/phalanx/src/pool/README.md`, "Who tells".
"""

from __future__ import annotations

import threading
from collections import deque

from phalanx import _core
from phalanx.multiprocessing import _travel, _worker
from phalanx.multiprocessing._bundles import GIVEN, Backlog, Bundle
from phalanx.multiprocessing._deaths import worker_died
from phalanx.multiprocessing._job import Job, in_main_thread, show
from phalanx.threading import Condition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from phalanx.multiprocessing._tender import Tender

    _Entry = tuple[Job, int, Any]

__all__ = ["CUT", "DROPPED", "GONE", "REVOKED", "Log"]

# What an entry of the log says of a job. First the board's words, then ours, then results that were read.
_RESULT, _NEWS, CUT, _LOST, _WRECK = (
    _core.Board.RESULT,
    _core.Board.NEWS,
    _core.Board.CUT,
    _core.Board.LOST,
    _core.Board.WRECK,
)
_SEALED = frozenset((_RESULT, _NEWS, CUT, _WRECK))
DROPPED, REVOKED = 8, 9
_FAILED, _UNREADABLE = GIVEN + 1, GIVEN + 2

GONE = -1  # the slot of a job that has been on the board
_popleft = deque.popleft


class Log:
    """What a crew knows of ended jobs. A part of `Crew`, which has what is only declared here."""

    board: _core.Board
    tender: Tender
    closing: bool
    over: bool
    terminated: bool
    under_way: set[Bundle]
    _lock: Any
    _backlog: Backlog
    _luggage: _travel.Luggage

    def __init__(self) -> None:
        self._found: deque[_Entry] = deque()  # what is to be told, by whoever comes by
        self._delicate: deque[_Entry] = deque()  # that of it which only the tender may tell
        self._telling: set[object] = set()  # one for each thread that does so
        self._calls_back = False  # callbacks of the program run when jobs end
        self._told = Condition()

    def _fill(self) -> None:
        raise NotImplementedError

    def _take_apart(self, bundle: Bundle, begun: int, first: bool = False) -> None:
        raise NotImplementedError

    # No loop stands inside `try` or `with` where signal handlers run: CPython 3.13.0 may leave it past both.

    def _settle(self) -> None:
        """End the jobs that the log says have ended.

        Not under the lock: results are loaded, and callbacks of the program run, which may want it together with locks
        of their own. A signal handler may raise at any call; what is in hand then goes back into the log, and ends may
        be told twice. Nothing else is raised here, in no thread.
        """
        found = self._found
        if not found and not self._delicate:
            return
        # Once there is no tender any more, everybody is.
        tending = self.over or threading.current_thread() is self.tender.thread
        if not found and not tending:
            return
        token = object()
        hand: list[_Entry] = []
        try:
            self._telling.add(token)
            stray = self._settle_all(hand, tending)
        finally:
            if hand:
                found.extendleft(hand)
            self._telling.discard(token)
            self.tell()
            if self.closing or found or self._delicate:
                self.tender.ring()
        if stray is not None:
            raise stray

    def _settle_all(self, hand: list[_Entry], tending: bool) -> BaseException | None:
        found = self._found
        stray: BaseException | None = None
        while found or (tending and self._delicate):
            if not tending and self._calls_back and not self.terminated:
                break
            try:
                hand += map(_popleft, (found if found or not tending else self._delicate,))  # one step for signals
            except IndexError:  # another thread was faster
                continue
            job, kind, value = hand[-1]
            try:
                if not self._settle_one(job, kind, value):
                    self._delicate.append(hand[-1])
                elif kind in _SEALED and value.stray is not None:
                    stray = value.stray
            except BaseException as error:
                if not tending and in_main_thread():
                    raise
                self._settle_again(job, kind, value, error)
            hand.clear()
            del job, value  # a result goes as soon as its job has it
        return stray

    def _settle_again(self, job: Job, kind: int, value: Any, error: BaseException) -> None:
        """Telling the end of a job has failed: once more, and then it ends with the reason."""
        job._faults += 1
        if isinstance(error, SystemExit | KeyboardInterrupt) or job._faults > 1:
            show()
        if job._faults == 1:
            self._found.appendleft((job, kind, value))
        elif job._faults == 2:
            text = f"the result of {job._describe()} could not be handed over: {type(error).__name__}"
            self._found.appendleft((job, DROPPED, _travel.told(error, None, text)))
        else:
            job._end()

    def _settle_one(self, job: Job, kind: int, value: Any) -> bool:
        """Tell what an entry of the log says. False: only the tender may."""
        if kind in _SEALED:
            value.open()
            if isinstance(job, Bundle):
                self._settle_bundle(job, kind, value)
                return True
            kind, value = GIVEN + value.kind, value.value
        elif kind == REVOKED:
            if isinstance(job, Bundle):
                with self._lock:
                    self._take_apart(job, 0)
                self._close(job)
            return True
        if job._limit is not None:
            self.tender.unlimit(job)
        if kind == GIVEN:
            told = job._succeed(value)
        else:
            if kind == _LOST:
                if job._doom is None and job._tries > 0 and not self.terminated:
                    self._run_again(job)
                    return True
                error, remote = job._doom or worker_died(job._describe(), *value), None
            elif kind == _FAILED:
                if self._again(job, value):
                    return True
                error, remote = _travel.rebuilt(value, job._describe())
            elif kind == _UNREADABLE:
                error, remote = _travel.unreadable(value, job._describe()), None
            else:
                error, remote = value, None
            told = job._fail(error, remote)
        if told:
            job._end()
        return told

    def _settle_bundle(self, bundle: Bundle, kind: int, sealed: Any) -> None:
        whole = kind in (_RESULT, _WRECK)
        if kind == _WRECK and not bundle._wrecked:
            gone = [(bundle.single(at), _LOST, sealed.last) for at in range(sealed.given, sealed.begun)]
            # One step for signals.
            found = self._found
            found += gone
            bundle._wrecked = True
        bundle.take(sealed, self._found, self._delicate, whole)
        if kind in (CUT, _WRECK):
            with self._lock:
                self._take_apart(bundle, sealed.begun)
        if whole:
            self._close(bundle)
        if kind in (CUT, _WRECK):
            self._fill()

    def _close(self, bundle: Bundle) -> None:
        self.under_way.discard(bundle)
        bundle.close()
        bundle._end()

    def _run_again(self, job: Job) -> None:
        if job._slot == GONE:
            # One step for signals, up to the call.
            job._tries -= 1
            job._began = 0.0
            job._waits = True
            job._slot = None
            self._backlog.jobs.append(job)
        self._fill()

    def _again(self, job: Job, failure: _worker.Failure) -> bool:
        """A task of which the worker does not know a function or a class goes once more, by value."""
        if job._refused is failure:
            return True
        unknown = failure[2] in ("AttributeError", "ModuleNotFoundError", "ImportError", "KeyError")
        if failure[4] != _worker.LOADING or not unknown or job._by_value or self._luggage.by_value:
            return False
        # One step for signals, up to the call.
        job._by_value = job._waits = True
        job._refused = failure
        job._slot = None
        self._backlog.jobs.append(job)
        self._fill()
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
