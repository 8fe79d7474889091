"""What `options()` sets for the tasks of a view of a pool."""

from __future__ import annotations

import sys
import threading
import time
from itertools import count

from phalanx.multiprocessing._shared import Bound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from phalanx.multiprocessing._job import Job

__all__ = ["PLAIN", "Options"]

_EVERY = 0.1  # seconds between two bars, where a terminal shows them
_LINES = 10  # lines in a log, at the most


class Options:
    """Options of tasks. What each means stands at `Pool.options`."""

    def __init__(
        self,
        timeout: float | None = None,
        retries: int = 0,
        memory: int | None = None,
        seed: int | None = None,
        progress: bool = False,
        on_progress: Callable[[int, int | None], object] | None = None,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError("timeout must be more than 0 seconds, or None")
        if type(retries) is not int or retries < 0:
            raise ValueError("retries must be an int of at least 0")
        if memory is not None and (type(memory) is not int or not 0 < memory < 1 << 63):
            raise ValueError("memory must be an int of more than 0 bytes and less than 2**63, or None")
        if seed is not None and type(seed) is not int:
            raise TypeError("seed must be an int or None")
        if on_progress is not None and not callable(on_progress):
            raise TypeError("on_progress must be callable, or None")
        self.timeout = timeout
        self.retries = retries
        self._memory = memory
        self._seed = seed
        self._progress = progress
        self._on_progress = on_progress
        self._numbers = count()
        # Nothing is asked for single tasks, which may travel together then.
        self.are_plain = timeout is None and not retries and memory is None and seed is None
        self._shared: tuple[int, Any] | None = None

    def for_threads(self) -> None:
        """Raise ValueError for what can only be had in processes."""
        if self._memory is not None:
            raise ValueError(
                "memory cannot be limited for a thread: threads share that of their process\n"
                "hint: use a pool of processes"
            )
        if self._seed is not None:
            raise ValueError(
                "threads share the generators of `random` and `numpy.random`, so seed is for processes\n"
                "hint: use a pool of processes, or give each task a generator of its own"
            )

    def share(self, number: int, thing: Any) -> None:
        """Give every call an object before its arguments; `number` is where the workers find it."""
        self._shared = (number, thing)

    def bind(self, function: Any) -> Any:
        """The function as it is to be called."""
        return Bound(function, *self._shared) if self._shared is not None else function

    def apply(self, job: Job, at: int | None = None) -> Job:
        """Give them to a job, whose first item is number `at`; without it, the next number of this view."""
        job._limit = self.timeout
        job._tries = self.retries
        given: dict[str, int] = {}
        if self._memory is not None:
            given["memory"] = self._memory
        if self._seed is not None:
            given["seed"] = self._seed
            given["at"] = next(self._numbers) if at is None else at
        if given:
            job._given = given
        return job

    def begin(self, total: int | None, name: str) -> Callable[[int], None] | None:
        """What is to be called with the number of items that have ended, or None."""
        shown = _bar(total, name) if self._progress else None
        told = self._on_progress
        if shown is None and told is None:
            return None

        def tell(done: int) -> None:
            if shown is not None:
                shown(done)
            if told is not None:
                told(done, total)

        return _InOrder(tell).note


class _InOrder:
    """News of several threads, told by one at a time: the newest, and never what is older than what was told.

    Nobody waits for that one: it may wait for results that the others have to tell.
    """

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        self._guard = threading.Lock()
        self._busy = threading.Lock()
        self._newest = self._told = 0

    def note(self, done: int) -> None:
        """So many have ended."""
        with self._guard:
            self._newest = max(self._newest, done)
        while self._is_behind() and self._busy.acquire(blocking=False):
            try:
                with self._guard:
                    self._told, now = self._newest, self._newest
                self._tell(now)
            finally:
                self._busy.release()

    def _is_behind(self) -> bool:
        with self._guard:
            return self._told < self._newest


PLAIN = Options()


def _bar(total: int | None, name: str) -> Callable[[int], None]:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return _Lines(total, name)
    bar: Any = tqdm(total=total, desc=name)

    def note(done: int) -> None:
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return note


class _Lines:
    """A bar on a terminal, some lines in a log."""

    def __init__(self, total: int | None, name: str) -> None:
        self._total = total
        self._name = name
        self._live = sys.stderr is not None and sys.stderr.isatty()
        self._began = time.monotonic()
        self._next = 0.0

    def __call__(self, done: int) -> None:
        total, now = self._total, time.monotonic()
        if self._live:
            if done != total and now < self._next:
                return
            self._next = now + _EVERY
        elif done != total:
            if total is None or done < self._next:
                return
            self._next = done + max(1, total // _LINES)
        spent = now - self._began
        rate = f"{done / spent:.1f}/s" if spent > 0 else ""
        many = f"{done}/{total} ({100 * done // total}%)" if total else str(done)
        end = "\r" if self._live and done != total else "\n"
        if sys.stderr is not None:
            sys.stderr.write(f"{self._name}: {many} {rate}{end}")
            sys.stderr.flush()
