"""The results of a pool's tasks: of one call, of a map, and one after the other."""

from __future__ import annotations

import itertools
import sys
import threading
import weakref
from collections import deque
from concurrent.futures import CancelledError
from multiprocessing import TimeoutError
from types import GenericAlias

from phalanx.multiprocessing import _worker
from phalanx.multiprocessing._bundles import Bundle, Pace, has_state
from phalanx.multiprocessing._crew import cancel
from phalanx.multiprocessing._job import Job, show, surely
from phalanx.multiprocessing._travel import caused_by
from phalanx.threading import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Self

    from phalanx.multiprocessing._options import Options
    from phalanx.multiprocessing.pool import Pool

__all__ = ["AsyncResult", "Call", "IMapIterator", "IMapUnorderedIterator", "MapResult"]

_AHEAD = 4  # chunks under way for each worker, where their size is given
_AHEAD_LEAST = 128
_CHUNK_TIME = 2e6  # nanoseconds that a chunk should take, where its size is not given
_FIRST_CHUNK = 8


def _with_cause(error: BaseException, remote: str | None) -> BaseException:
    if remote:
        from phalanx.multiprocessing.pool import RemoteTraceback

        caused_by(error, RemoteTraceback(f'\n"""\n{remote}"""'))
    return error


class Call(Job):
    """One call, whose result ends an `AsyncResult`."""

    def __init__(self, result: AsyncResult, function: Any, args: Any, kwds: Any) -> None:
        super().__init__(_worker.CALL, function, args, kwds)
        self._result = result

    def _succeed(self, value: Any) -> bool:
        self._result._set(True, value)
        return True

    def _fail(self, error: BaseException, remote: str | None) -> bool:
        self._result._set(False, _with_cause(error, remote))
        return True


class AsyncResult:
    """The result of `apply_async`, `map_async` or `starmap_async`: there once `ready()`."""

    __module__ = "multiprocessing.pool"

    def __init__(
        self, pool: Pool, callback: Callable[[Any], object] | None, error_callback: Callable[[Any], object] | None
    ) -> None:
        self._pool: Pool | None = pool
        self._crew = pool._crew
        self._callback = callback
        self._error_callback = error_callback
        if callback or error_callback:
            pool._crew.call_back()
        self._done = False
        self._success = False
        self._value: Any = None
        self._job: Job | None = None

    def ready(self) -> bool:
        """Say whether the call has ended."""
        return self._done

    def successful(self) -> bool:
        """Say whether it returned. Raises ValueError while it has not ended."""
        if not self._done:
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended, at most `timeout` seconds."""
        if not self._done:
            self._crew.wait_for(self.ready, timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return what the call returned, or raise what it raised; TimeoutError after `timeout` seconds."""
        self.wait(timeout)
        if not self._done:
            raise TimeoutError
        if self._success:
            return self._value
        try:
            raise self._value
        finally:
            del self  # its traceback has this frame

    def cancel(self, running: bool = False) -> bool:
        """Prevent a call that no worker has begun; with `running`, end the worker that has.

        Return whether that was done. Whoever waits for it gets CancelledError.
        """
        job = self._job
        if job is None or self._done:
            return False
        error = CancelledError(f"{job._describe()} was cancelled")
        return cancel(self._crew, job, error, running) and (self.ready() or self._crew.wait_for(self.ready, 2.0))

    def _set(self, success: bool, value: Any) -> None:
        if self._done:
            return
        self._success, self._value = success, value
        callback = self._callback if success else self._error_callback
        try:
            if callback:
                self._crew.tell()  # of others that have ended: it may wait for those who wait for them
                callback(value)
        except Exception:  # the program's own; the result is there all the same
            sys.excepthook(*sys.exc_info())
        except BaseException:
            show()
        finally:
            self._callback = self._error_callback = self._job = self._pool = None
            self._done = True

    __class_getitem__: Any = classmethod(GenericAlias)


class _Chunk(Job):
    """A part of a map."""

    def __init__(self, result: MapResult, mode: int, function: Any, items: Any, start: int) -> None:
        super().__init__(mode, function, items)
        self._map = result
        self._start = start
        self._many = len(items)

    def _succeed(self, value: Any) -> bool:
        spent, results = value
        if not self._told:
            self._map._learn(len(results), spent, 0)
        self._map._take(self, self._start, results, 1)
        return True

    def _fail(self, error: BaseException, remote: str | None) -> bool:
        self._map._miss(self, _with_cause(error, remote), self._many)
        return True


class _Item(Job):
    """One item of a map."""

    _many = 1

    def __init__(self, result: MapResult, function: Any, args: tuple[Any, ...], start: int, counts: int = 1) -> None:
        super().__init__(_worker.CALL, function, args)
        self._map = result
        self._start = start
        self._counts = counts  # 0: its bundle has been counted

    def _succeed(self, value: Any) -> bool:
        self._map._take(self, self._start, (value,), 1, self._counts)
        return True

    def _fail(self, error: BaseException, remote: str | None) -> bool:
        self._map._miss(self, _with_cause(error, remote), 1, self._counts)
        return True


class _MapBundle(Bundle):
    """Items of a map that travel together."""

    def __init__(self, result: MapResult, mode: int, function: Any, items: tuple[Any, ...], start: int) -> None:
        super().__init__(mode, function, items)
        self._map = result
        self._start = start
        self._many = len(items)

    def single(self, at: int) -> Job:
        item = self.items[at]
        args = item if self._map._mode == _worker.STARMAP else (item,)
        return _Item(self._map, self._function, args, self._start + at, counts=0)

    def deliver(self, first: int, values: list[Any], later: deque[Any]) -> None:
        self._map._take(self, self._start + first, values, first + len(values), 0)

    def close(self) -> None:
        self._map._close(self)

    def learn(self, n: int, spent: int, size: int) -> None:
        self._map._learn(n, spent, size)

    def _fail(self, error: BaseException, remote: str | None) -> bool:
        self._map._miss(self, _with_cause(error, remote), self.untold(), 0)
        self.close()
        return True


class MapResult(AsyncResult):
    """The results of a map, in the order of its items. Chunks go out as others come back."""

    def __init__(
        self,
        pool: Pool,
        function: Any,
        items: list[Any],
        mode: int,
        chunksize: int | None,
        options: Options,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[Any], object] | None,
    ) -> None:
        super().__init__(pool, callback, error_callback)
        self._function = function
        self._items = items
        self._mode = mode
        self._options = options
        self._size = chunksize
        self._workers = pool._crew.size
        self._next = 0
        self._open = 0  # chunks, items or bundles under way
        self._value = [None] * len(items)
        self._error: BaseException | None = None
        together = chunksize == 1 and options.are_plain and pool._crew.bundles and not has_state(function)
        self._pace = Pace(pool._crew) if together else None
        self._each = 0.0  # nanoseconds that an item takes, as far as seen
        self._ended = 0
        self._noted = 0
        self._note = options.begin(len(items), _worker.name_of(function))
        self._guard = threading.RLock()
        self._window = max(_AHEAD_LEAST, _AHEAD * self._workers) if chunksize else 2 * self._workers
        self._sending: Job | None = None  # about to be handed in
        self._feeding = False
        if self._note is not None:
            self._crew.call_back()
        self._go_on()

    def _chunk(self) -> int:
        left = len(self._items) - self._next
        if self._options.timeout is not None:  # which is for each item
            return 1
        fair = max(1, left // (2 * self._workers))
        if self._pace is not None:
            return min(fair, self._pace.many())
        if self._size:
            return min(self._size, left)
        if not self._each:
            return min(_FIRST_CHUNK, max(1, left // (4 * self._workers)))
        return max(1, min(fair, int(_CHUNK_TIME / self._each)))

    def _feed(self) -> None:
        """Hand in as many as may be under way. Where it was interrupted, it goes on where it was."""
        with self._guard:
            if self._feeding:  # a job that is done at once, where it is handed in
                return
            try:
                self._feeding = True
                self._feed_all()
            finally:
                self._feeding = False

    def _feed_all(self) -> None:
        while self._sending is not None or self._prepare():
            self._send()

    def _prepare(self) -> bool:
        """Make the next job. False: there are enough under way, or no more."""
        while self._next < len(self._items) and self._open < self._window:
            start, n = self._next, self._chunk()
            if self._pace is not None and n > 1 and self._open >= _AHEAD * self._workers:
                return False
            nothing = [None] * n
            job, error, stray = surely(self._job_of, start, n)
            if error is not None:  # an item of a starmap that is not iterable
                self._error = self._error or error
                self._next += n
                self._ended += n
                continue
            # One step for signals: no call lies between.
            self._items[start : start + n] = nothing
            self._next += n
            self._open += 1
            self._sending = job
            if stray is not None:
                raise stray
            return True
        return False

    def _send(self) -> None:
        job: Any = self._sending
        try:
            self._crew.submit(job, again=True)
        except RuntimeError as refused:  # the pool takes no more
            error = self._crew.end_error or refused
            left = len(self._items) - self._next
            # One step for signals.
            self._error = self._error or error
            self._ended += job._many + left
            self._next += left
            self._open -= 1
            job._missed = True
        self._sending = None

    def _job_of(self, start: int, n: int) -> Job:
        items = tuple(self._items[start : start + n])
        job: Job
        if self._pace is not None:
            if self._mode == _worker.STARMAP:
                items = tuple(map(tuple, items))
            job = _MapBundle(self, self._mode, self._function, items, start)
        elif n == 1:
            args = items[0] if self._mode == _worker.STARMAP else items
            job = _Item(self, self._function, tuple(args), start)
        else:
            job = _Chunk(self, self._mode, self._function, items, start)
        return self._options.apply(job, start)

    def _learn(self, n: int, spent: int, size: int) -> None:
        if self._pace is not None:
            self._pace.learn(n, spent, size)
        elif spent:
            each = max(1.0, spent / n)
            self._each = each if not self._each else (self._each + each) / 2

    # What has ended is counted in one step, for signals; what follows from it may be done again.

    def _take(self, job: Job, start: int, results: Any, told: int, counts: int = 1) -> None:
        n = len(results)
        with self._guard:
            if job._told < told:
                self._value[start : start + n] = results
                self._ended += n
                self._open -= counts
                job._told = told
        self._go_on()

    def _miss(self, job: Job, error: BaseException, n: int, counts: int = 1) -> None:
        with self._guard:
            if not job._missed:
                self._error = self._error or error
                self._ended += n
                self._open -= counts
                job._missed = True
        self._go_on()

    def _close(self, bundle: Bundle) -> None:
        with self._guard:
            if not bundle.closed:
                self._open -= 1
                bundle.closed = True
        self._go_on()

    def _go_on(self) -> None:
        with self._guard:
            if self._done:
                return
            if self._note is not None and self._ended > self._noted:
                self._noted = self._ended
                try:
                    self._note(self._ended)
                except BaseException as error:  # the program's own
                    self._note = None
                    self._error = self._error or error
            self._feed()
            if self._ended >= len(self._value):
                self._items = []
                if self._error is None:
                    self._set(True, self._value)
                else:
                    self._set(False, self._error)


class IMapIterator:
    """The results of `imap`, as they are asked for. A bounded number of items is pulled ahead."""

    _ordered = True

    def __init__(self, pool: Pool, function: Any, iterable: Iterable[Any], chunksize: int, options: Options) -> None:
        self._pool: Pool | None = pool
        self._crew = pool._crew
        self._guard = threading.RLock()
        # By the number of the first item, as they came: whether it succeeded, the results or the error, how many items.
        self._results: dict[int, tuple[bool, Any, int]] = {}
        self._index = 0  # the next item to be handed out
        self._count: int | None = None  # how many there are, once that is known
        self._now: Iterator[Any] = iter(())
        self._ended_items = 0
        self._trouble: BaseException | None = None  # what the program's own `on_progress` has raised
        self._note = options.begin(None, _worker.name_of(function))
        if self._note is not None:
            self._crew.call_back()
        self._feeder = feeder = _Feeder(self, function, iterable, chunksize, options)
        if feeder.may_block:
            threading.Thread(target=feeder.run, name="phalanx-imap", daemon=True).start()
        else:
            feeder.fill()

    def __iter__(self) -> Self:
        return self

    def __del__(self) -> None:
        feeder = self.__dict__.get("_feeder")
        if feeder is not None:
            feeder.leave()

    def _come(self) -> bool:
        if self._index == self._count:
            return True
        return self._index in self._results if self._ordered else bool(self._results)

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result; TimeoutError after `timeout` seconds, StopIteration at the end."""
        while True:
            for value in self._now:
                return value
            if not self._come():
                self._feeder.flush()
                self._feeder.make_room()
                if not self._crew.wait_for(self._come, timeout):
                    raise TimeoutError from None
            with self._guard:
                self._turn()

    __next__ = next

    def _turn(self) -> None:
        """What has come is handed out from now on. Another thread may have been faster."""
        if self._now.__length_hint__() or not self._come():  # type: ignore[attr-defined]
            return
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble
        if self._index == self._count:
            self._pool = None
            raise StopIteration
        at = self._index if self._ordered else next(iter(self._results))
        success, value, n = self._results[at]
        now = iter(value) if success else iter(())
        # One step for signals: no call lies between.
        del self._results[at]
        self._index += n
        self._now = now
        self._feeder.make_room()
        if isinstance(value, StopIteration):
            raise RuntimeError("a task raised StopIteration") from value  # as it is, it would look like the end
        if not success:
            raise value

    def _arrived(self, job: Job | None, at: int, success: bool, value: Any, n: int, told: int = 1) -> None:
        """The results of `n` items from number `at` on, or the error that stands for them."""
        with self._guard:
            if job is None:
                self._results[at] = (success, value, n)
            elif job._told < told:
                # One step for signals.
                self._ended_items += n
                self._results[at] = (success, value, n)
                job._told = told
        if self._note is not None:
            try:
                self._note(self._ended_items)
            except BaseException as error:  # the program's own
                self._note, self._trouble = None, error

    def _ended(self, count: int) -> None:
        self._count = count


class IMapUnorderedIterator(IMapIterator):
    """The results of `imap_unordered`: whatever comes first."""

    _ordered = False


_AT_HAND = (list, tuple, range, str, bytes, dict, set, frozenset)
_QUICK = (*_AT_HAND, *(type(iter(kind())) for kind in (list, tuple, str, bytes, dict, set)), type(iter(range(0))))


class _Feeder:
    """Pulls the items of an imap, and hands them in. It does not keep the iterator alive.

    An input that may block is pulled by a thread of its own. Nothing that was pulled waits for the next item: it goes
    out when a bundle is full, when a worker is idle, when somebody waits for results, or with the tender's next beat.
    """

    def __init__(
        self, results: IMapIterator, function: Any, iterable: Iterable[Any], size: int, options: Options
    ) -> None:
        self._results = weakref.ref(results)
        self._crew = results._crew
        self._function = function
        self._options = options
        self._size = 1 if options.timeout is not None else size
        together = self._size == 1 and options.are_plain and self._crew.bundles and not has_state(function)
        self._pace = Pace(self._crew) if together else None
        self.may_block = type(iterable) not in _QUICK and not self._crew.is_foreign
        self._items = iter(iterable)
        self._guard = threading.RLock()
        self._held: list[Any] = []  # pulled, and not handed in yet
        self._sending: Job | None = None  # about to be handed in
        self._pulled = 0
        self._over = False
        self.room = Event()
        self._crew.feeders.add(self)

    def leave(self) -> None:
        """No more items will come."""
        self._over = True
        self._crew.feeders.discard(self)
        self.room.set()

    def _ahead(self) -> int:
        """How many items may be under way."""
        most = max(_AHEAD_LEAST // 2, _AHEAD * self._crew.size) * self._size
        return most if self._pace is None else max(most, _AHEAD * self._crew.size * self._pace.many())

    def _has_room(self) -> bool:
        results = self._results()
        if self._crew.closing:  # join() must come to its end whether anybody asks for results or not
            return True
        return results is None or self._pulled - results._index < self._ahead()

    def make_room(self) -> None:
        """Results have been handed out."""
        if not self.may_block:
            self.fill()
        elif not self.room.is_set():
            self.room.set()

    def fill(self) -> None:
        """Hand in as many items as there is room for. For inputs that do not block."""
        with self._guard:
            self._fill_all()

    def _fill_all(self) -> None:
        while not self._over and (self._sending is not None or self._held or self._has_room()):
            if not self._held and self._sending is None:
                n = self._size if self._pace is None else self._pace.many()
                some = itertools.islice(self._items, n)
                try:
                    # One step for signals, unless it runs code of the program.
                    self._held += some
                except BaseException as raised:  # it was changed meanwhile
                    self._end(raised)
                    return
                if not self._held:
                    self._end(None)
                    return
            self._hand_in()

    def run(self) -> None:
        """Pull until the end."""
        while not self._over:
            self.room.clear()
            if not self._has_room():
                self.room.wait()
            if self._over:
                return
            try:
                chunk = list(itertools.islice(self._items, self._size))
            except BaseException as raised:
                self.flush()
                self._end(raised)
                return
            if chunk and self._pace is not None:
                self._hold(chunk[0])
                continue
            self.flush()
            if not chunk:
                self._end(None)
                return
            with self._guard:
                self._held = chunk
                self._hand_in()

    def _hold(self, item: Any) -> None:
        assert self._pace is not None
        with self._guard:
            self._held.append(item)
            n = len(self._held)
        if n >= self._pace.many() or self._crew.board.is_starving():
            self.flush()
        elif n == 1:
            self._crew.tender.hold(self)

    def flush(self) -> None:
        """Hand in what was held back, or interrupted."""
        if not self._held and self._sending is None:
            return
        with self._guard:
            self._crew.tender.held.discard(self)
            if self._held or self._sending is not None:
                self._hand_in()

    def _hand_in(self) -> None:
        """Under the guard: make one job of what is held, and hand it in."""
        if self._over:
            return
        if self._sending is None:
            items, at = tuple(self._held), self._pulled
            n = len(items)
            job: Job
            if self._pace is not None:
                job = _ImapBundle(self._results, self._pace, self._function, items, at)
            else:
                job = _Part(self._results, at, self._function, items)
            job = self._options.apply(job, at)
            # One step for signals: no call lies between.
            self._held = []
            self._pulled += n
            self._sending = job
        sent = self._sending
        try:
            self._crew.submit(sent, again=True)
        except RuntimeError as refused:
            self._pulled = sent._start  # type: ignore[attr-defined]
            self._end(self._crew.end_error or refused)
        self._sending = None

    def _end(self, error: BaseException | None) -> None:
        with self._guard:
            if self._over:
                return
            results = self._results()
            if results is not None:
                count = self._pulled
                if error is not None:
                    results._arrived(None, count, False, error, 1)
                    count += 1
                results._ended(count)
            self.leave()
        self._crew.tell()

    def drop(self, error: BaseException | None) -> None:
        """The pool was terminated: nothing more is pulled, and whoever asks for more gets `error`."""
        self._end(error)


class _Part(Job):
    """One chunk of an imap."""

    def __init__(self, results: Any, at: int, function: Any, chunk: tuple[Any, ...]) -> None:
        self._n = len(chunk)
        super().__init__(_worker.CALL if self._n == 1 else _worker.MAP, function, chunk)
        self._results = results
        self._start = at

    def _succeed(self, value: Any) -> bool:
        results = self._results()
        if results is not None:
            results._arrived(self, self._start, True, [value] if self._n == 1 else value[1], self._n)
        return True

    def _fail(self, error: BaseException, remote: str | None) -> bool:
        results = self._results()
        if results is not None:
            results._arrived(self, self._start, False, _with_cause(error, remote), self._n)
        return True


class _ImapBundle(Bundle):
    """Items of an imap that travel together."""

    def __init__(self, results: Any, pace: Pace, function: Any, items: tuple[Any, ...], at: int) -> None:
        super().__init__(_worker.MAP, function, items)
        self._results = results
        self._pace = pace
        self._start = at

    def single(self, at: int) -> Job:
        return _Part(self._results, self._start + at, self._function, (self.items[at],))

    def deliver(self, first: int, values: list[Any], later: deque[Any]) -> None:
        results = self._results()
        if results is not None and values:
            n = len(values)
            results._arrived(self, self._start + first, True, values, n, first + n)

    def learn(self, n: int, spent: int, size: int) -> None:
        self._pace.learn(n, spent, size)

    def _fail(self, error: BaseException, remote: str | None) -> bool:
        results = self._results()
        if results is not None:
            for at in range(max(self._told, self._logged), self.kept):
                results._arrived(self, self._start + at, False, error, 1, at + 1)
        return True
