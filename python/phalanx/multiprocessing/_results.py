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
from phalanx.multiprocessing._crew import Job, cancel

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

        error.__cause__ = RemoteTraceback(f'\n"""\n{remote}"""')
    return error


class Call(Job):
    """One call, whose result ends an `AsyncResult`."""

    __slots__ = ("_result",)

    def __init__(self, result: AsyncResult, function: Any, args: Any, kwds: Any) -> None:
        super().__init__(_worker.CALL, function, args, kwds)
        self._result = result

    def succeed(self, value: Any) -> None:
        self._result._set(True, value)

    def fail(self, error: BaseException, remote: str | None) -> None:
        self._result._set(False, _with_cause(error, remote))


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
        raise self._value

    def cancel(self, running: bool = False) -> bool:
        """Prevent a call that no worker has begun; with `running`, end the worker that has.

        Return whether that was done. Whoever waits for it gets CancelledError.
        """
        job = self._job
        if job is None or self._done:
            return False
        error = CancelledError(f"{job.describe()} was cancelled")
        return cancel(self._crew, job, error, running) and self._crew.wait_for(self.ready, 2.0)

    def _set(self, success: bool, value: Any) -> None:
        self._success, self._value = success, value
        callback = self._callback if success else self._error_callback
        if callback:
            try:
                callback(value)
            except Exception:  # the program's own, in whatever thread has come by: the result is there all the same
                sys.excepthook(*sys.exc_info())
        self._done = True
        self._callback = self._error_callback = self._job = self._pool = None

    __class_getitem__: Any = classmethod(GenericAlias)


class _Chunk(Job):
    """A part of a map."""

    __slots__ = ("_many", "_map", "_start")

    def __init__(self, result: MapResult, mode: int, function: Any, items: Any, start: int) -> None:
        super().__init__(mode, function, items)
        self._map = result
        self._start = start
        self._many = 1 if mode == _worker.CALL else len(items)

    def succeed(self, value: Any) -> None:
        spent, results = value
        self._map._take(self._start, results, spent)

    def fail(self, error: BaseException, remote: str | None) -> None:
        self._map._miss(_with_cause(error, remote), self._many)


class _Item(_Chunk):
    """One item of a map."""

    __slots__ = ()

    def succeed(self, value: Any) -> None:
        self._map._take(self._start, (value,), 0)


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
        self._open = 0  # chunks under way
        self._value = [None] * len(items)
        self._error: BaseException | None = None
        self._each = 0.0  # nanoseconds that an item takes, as far as seen
        self._ended = 0
        self._note = options.begin(len(items), _worker.name_of(function))
        self._guard = threading.RLock()
        self._window = max(_AHEAD_LEAST, _AHEAD * self._workers) if chunksize else 2 * self._workers
        if items:
            self._feed()
        else:
            self._set(True, [])

    def _chunk(self) -> int:
        left = len(self._items) - self._next
        if self._options.timeout is not None:  # which is for each item
            return 1
        if self._size:
            return min(self._size, left)
        fair = max(1, left // (2 * self._workers))
        if not self._each:
            return min(_FIRST_CHUNK, max(1, left // (4 * self._workers)))
        return max(1, min(fair, int(_CHUNK_TIME / self._each)))

    def _feed(self) -> None:
        with self._guard:
            while self._next < len(self._items) and self._open < self._window:
                start, n = self._next, self._chunk()
                items = tuple(self._items[start : start + n])
                self._items[start : start + n] = [None] * n
                self._next += n
                self._open += 1
                job: Job
                if n == 1:
                    args = items[0] if self._mode == _worker.STARMAP else items
                    job = _Item(self, _worker.CALL, self._function, tuple(args), start)
                else:
                    job = _Chunk(self, self._mode, self._function, items, start)
                self._crew.submit(self._options.apply(job, start))

    def _take(self, start: int, results: Any, spent: int) -> None:
        with self._guard:
            n = len(results)
            self._value[start : start + n] = results
            if spent:
                self._each = max(1.0, spent / n) if not self._each else (self._each + max(1.0, spent / n)) / 2
            self._closed_one(n)

    def _miss(self, error: BaseException, n: int) -> None:
        with self._guard:
            if self._error is None:
                self._error = error
            self._closed_one(n)

    def _closed_one(self, n: int) -> None:
        self._open -= 1
        self._ended += n
        if self._note is not None:
            try:
                self._note(self._ended)
            except Exception as error:  # the program's own
                self._note = None
                self._error = self._error or error
        if self._next < len(self._items):
            if self._crew.terminated:
                self._next = len(self._items)
            else:
                self._feed()
        if not self._open and self._next >= len(self._items) and not self._done:
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
        self._function = function
        self._chunksize = 1 if options.timeout is not None else chunksize
        self._options = options
        self._room = threading.Semaphore(max(_AHEAD_LEAST // 2, _AHEAD * self._crew.size))
        self._results: dict[int, tuple[bool, Any]] = {}
        self._order: deque[int] = deque()
        self._index = 0  # the next chunk to be handed out
        self._count: int | None = None  # how many there are, once that is known
        self._now: Iterator[Any] = iter(())
        self._stop = False
        self._ended_items = 0
        self._note = options.begin(None, _worker.name_of(function))
        feeder = _Feeder(self)
        threading.Thread(target=feeder.run, args=(iter(iterable),), name="phalanx-imap", daemon=True).start()

    def __iter__(self) -> Self:
        return self

    def __del__(self) -> None:
        self._stop = True
        room = self.__dict__.get("_room")
        if room is not None:
            room.release()

    def _come(self) -> bool:
        if self._index == self._count:
            return True
        return self._index in self._results if self._ordered else bool(self._order)

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result; TimeoutError after `timeout` seconds, StopIteration at the end."""
        while True:
            try:
                return next(self._now)
            except StopIteration:
                pass
            if not self._come() and not self._crew.wait_for(self._come, timeout):
                raise TimeoutError from None
            if self._index == self._count:
                self._pool = None
                raise StopIteration from None
            at = self._index if self._ordered else self._order.popleft()
            success, value = self._results.pop(at)
            self._index += 1
            self._room.release()
            if not success:
                raise value
            self._now = iter(value)

    __next__ = next

    def _arrived(self, at: int, success: bool, value: Any, n: int = 0) -> None:
        self._ended_items += n
        if self._note is not None and n:
            self._note(self._ended_items)
        self._results[at] = (success, value)
        self._order.append(at)

    def _ended(self, count: int) -> None:
        self._count = count


class IMapUnorderedIterator(IMapIterator):
    """The results of `imap_unordered`: whatever comes first."""

    _ordered = False


class _Feeder:
    """Pulls the items of an imap, in a thread of its own. It does not keep the iterator alive."""

    def __init__(self, results: IMapIterator) -> None:
        self._results = weakref.ref(results)
        self._room = results._room
        self._crew = results._crew
        self._function = results._function
        self._size = results._chunksize
        self._options = results._options

    def run(self, items: Iterator[Any]) -> None:
        count = 0
        error: BaseException | None = None
        while True:
            self._room.acquire()
            if self._is_over():
                return
            try:
                chunk = tuple(itertools.islice(items, self._size))
            except BaseException as raised:
                error = raised
                break
            if not chunk:
                break
            job: Job = _Part(self._results, count, self._function, chunk)
            try:
                self._crew.submit(self._options.apply(job, count * self._size))
            except RuntimeError as ended:
                error = ended
                break
            count += 1
        results = self._results()
        if results is not None:
            if error is not None:
                results._arrived(count, False, error)
                count += 1
            results._ended(count)
            self._crew.board.tell()

    def _is_over(self) -> bool:
        results = self._results()
        return results is None or results._stop or self._crew.terminated


class _Part(Job):
    """One chunk of an imap."""

    __slots__ = ("_at", "_results", "_single")

    def __init__(self, results: Any, at: int, function: Any, chunk: tuple[Any, ...]) -> None:
        self._single = len(chunk) == 1
        super().__init__(_worker.CALL if self._single else _worker.MAP, function, chunk)
        self._results = results
        self._at = at

    def succeed(self, value: Any) -> None:
        results = self._results()
        if results is not None:
            values = (value,) if self._single else value[1]
            results._arrived(self._at, True, values, len(values))

    def fail(self, error: BaseException, remote: str | None) -> None:
        results = self._results()
        if results is not None:
            results._arrived(self._at, False, _with_cause(error, remote), 1)
