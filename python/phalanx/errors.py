"""The exceptions of phalanx, and every text a deadlock report can contain.

The Rust core and the Python side both raise the classes of this file, so it imports nothing. The words of a report live
in one table, `DEADLOCK_TEXTS`: a test walks it and asks for an example of each entry.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = [
    "DEADLOCK_TEXTS",
    "START_TEXTS",
    "DeadlockError",
    "HeldObject",
    "OwnerDied",
    "PhalanxError",
    "StartError",
    "WaitingThread",
]


class PhalanxError(Exception):
    """The base of every exception that is phalanx's own."""

    __module__ = "phalanx"


class _Record:
    """A small value that cannot be changed: compared, hashed, printed and pickled by its fields."""

    __slots__: tuple[str, ...] = ()

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def _fill(self, *values: object) -> None:
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is read-only")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is read-only")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in zip(self.__slots__, self._fields(), strict=True))
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._fields())


class HeldObject(_Record):
    """One lock that a thread of the report holds, and the line that took it.

    `taken_at` is ``"path:line"`` with the path as Python knows it, or None where it was not noted.
    """

    __slots__ = ("name", "kind", "taken_at")  # noqa: RUF023  the order of the fields
    name: str
    kind: str
    taken_at: str | None

    def __init__(self, name: str, kind: str, taken_at: str | None = None) -> None:
        self._fill(name, kind, taken_at)


class WaitingThread(_Record):
    """One thread of a deadlock: what it waits for, on which line, and what it holds meanwhile.

    `waits_for` is the name that the report uses for it, `kind` says what sort of wait it is: "Lock", "Queue.get"
    and so on. `waits_at` is ``"path:line"`` of the innermost frame that belongs to the program, or None for a thread
    without such a frame.
    """

    __slots__ = ("name", "ident", "native_id", "waits_for", "waits_at", "holds", "kind")  # noqa: RUF023
    name: str | None
    ident: int
    native_id: int
    waits_for: str
    waits_at: str | None
    holds: tuple[HeldObject, ...]
    kind: str

    def __init__(
        self,
        name: str | None,
        ident: int,
        native_id: int,
        waits_for: str,
        waits_at: str | None,
        holds: Iterable[HeldObject] = (),
        kind: str = "",
    ) -> None:
        self._fill(name, ident, native_id, waits_for, waits_at, tuple(holds), kind)


class DeadlockError(PhalanxError, RuntimeError):
    """A wait that can never end, raised in one of the threads that take part.

    The text of the exception is the report. The same facts for a program:

    - `cause`: "cycle" (each waits for the next), "asleep" (nobody is left to wake them), "orphan" (the owner is gone)
    - `threads`: a list of `WaitingThread`, one for each thread of the report
    - `hint`: the advice of the last line, or None

    It holds text and numbers only, no frames and no locks, so it may be kept, pickled and sent to another process.
    """

    __module__ = "phalanx"

    cause: str
    threads: list[WaitingThread]
    hint: str | None

    def __init__(
        self, text: str = "", cause: str = "asleep", threads: Iterable[WaitingThread] = (), hint: str | None = None
    ) -> None:
        super().__init__(text)
        self.cause = cause
        self.threads = list(threads)
        self.hint = hint

    def as_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and numbers, ready for JSON."""
        threads = []
        for thread in self.threads:
            plain = dict(zip(thread.__slots__, thread._fields(), strict=True))
            plain["holds"] = [dict(zip(held.__slots__, held._fields(), strict=True)) for held in thread.holds]
            threads.append(plain)
        return {"cause": self.cause, "threads": threads, "hint": self.hint}


class OwnerDied(PhalanxError, RuntimeError):
    """What is waited for was in the hands of a process that died: raised by `acquire`, `wait` and `join`.

    - `pid`: the process id of the dead process
    - `reason`: how it ended, in words
    - `taken_at`: ``"path:line"`` where it had taken the lock, or None where that is not known
    - `kind`: "Lock", "RLock", "Semaphore", "Condition" or "JoinableQueue"

    The object stays so until its `recover()` is called. It holds text and numbers only, so it may be pickled.
    """

    __module__ = "phalanx"

    def __init__(
        self, text: str = "", *, pid: int = 0, reason: str = "", taken_at: str | None = None, kind: str = ""
    ) -> None:
        super().__init__(text)
        self.pid = pid
        self.reason = reason
        self.taken_at = taken_at
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self),), dict(self.__dict__)


class StartError(PhalanxError, RuntimeError):
    """A child process that ended before it could begin: raised in its parent, once, by `join()` or `start()`.

    The text of the exception says it all. The same facts for a program:

    - `process`: the name of the process
    - `place`: ``"path:line"`` of the program where it went wrong, or None where that is not known
    - `hint`: the advice of the last lines, or None

    It holds text only, so it may be kept, pickled and sent to another process.
    """

    process: str
    place: str | None
    hint: str | None

    def __init__(self, text: str = "", process: str = "", place: str | None = None, hint: str | None = None) -> None:
        super().__init__(text)
        self.process = process
        self.place = place
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.process, self.place, self.hint)


START_TEXTS: dict[str, str] = {
    # The first line: what happened.
    "head.unguarded": 'process "{name}" ended before it could begin: '
    "it imports the main module, and importing it starts processes",
    "head.server": 'process "{name}" could not begin: the fork server ended while it imported the main module',
    # Where, and the line itself.
    "place": "  {place}  {line}",
    # The last lines: a thing to do.
    "hint.guard": "let only the program start processes, and not those who import its file; put it under\n"
    '    if __name__ == "__main__":\n'
    "        main()",
    # The same for `Process.exit_reason`.
    "reason.unguarded": "ended before it could begin: importing the main module starts processes ({place})",
}


DEADLOCK_TEXTS: dict[str, str] = {
    # The first line: what happened.
    "head.cycle.self": "a thread waits for a lock that it holds itself",
    "head.cycle.future": "a thread waits for the result of the task that it runs itself",
    "head.cycle.two": "2 threads wait for each other",
    "head.cycle.many": "{n} threads wait for each other in a circle",
    "head.asleep.main": "the main thread is asleep and nobody is left to wake it",
    "head.asleep.one": "the last thread is asleep and nobody is left to wake it",
    "head.asleep.two": "both threads are asleep and nobody is left to wake them",
    "head.asleep.many": "all {n} threads are asleep and nobody is left to wake them",
    "head.orphan.ended": "the owner of {name} has ended without releasing it",
    "head.orphan.forked": "the owner of {name} did not survive fork",
    "head.unknown": "a wait that can never end",
    # One line for each thread: who it is and what it holds.
    "row.thread": 'Thread "{name}"',
    "row.nameless": "Thread {ident}",
    "row.holds": "holds {what}",
    "row.runs": "runs {what}",
    "row.more": "... and {n} more",
    # ... and what it waits for, by kind.
    "wait.Lock": "waits for {name}",
    "wait.RLock": "waits for {name}",
    "wait.Condition": "waits for a notify of {name}",
    "wait.Semaphore": "waits for a permit of {name}",
    "wait.Event": "waits for {name} to be set",
    "wait.Barrier": "waits at {name}",
    "wait.Thread.join": "waits for the end of {thread}",
    "wait.shutdown": "has finished; the interpreter waits for {thread} to end",
    "wait.Queue.get": "waits for an item from {name}",
    "wait.Queue.put": "waits for room in {name}",
    "wait.Queue.join": "waits for the unfinished tasks of {name}",
    "wait.Queue.join.counted": "waits for {n} unfinished tasks of {name}",
    "wait.Queue.join.one": "waits for 1 unfinished task of {name}",
    "wait.SimpleQueue.get": "waits for an item from {name}",
    "wait.Future.result": "waits for the result of {name}",
    "wait.Executor idle": "waits for work",
    "wait.other": "waits for {name}",
    "thread.ended": "a thread that has ended",
    "thread.forked": "a thread that did not survive fork",
    "thread.others": "the other threads",
    # ... with details in parentheses.
    "detail.kind": "{kind}",
    "detail.idle": "idle worker of a pool",
    "detail.maxsize": "maxsize {n}",
    "detail.arrived": "{n} of {parties} parties arrived",
    "detail.runs_in": "runs in {thread}",
    "detail.pending": "not started",
    "detail.pending.one": "not started: the only worker of the pool is busy",
    "detail.pending.many": "not started: all {n} workers of the pool are busy",
    "detail.taken_by": "taken at {place} by {thread}",
    "detail.taken_at": "taken at {place}",
    # The last line: a thing to do. `{name}` and the like are in backticks where the reader can type them.
    "hint.order.two": "take {first} before {second} in both places",
    "hint.order.same": "take {first} before {second} in every thread",
    "hint.order.many": "take the locks in one order in every thread: {names}",
    "hint.order.sorted": "take the locks in one order in every thread, for example sorted by `id()`",
    "hint.self": "use an `RLock`, or do not call what takes {name} while holding it",
    "hint.self.acquire": "release {name} before taking it again, best with `with {bare}:`",
    "hint.self.queue": "do not use the queue's methods while holding {name}",
    "hint.future.self": "let the task return its result instead of asking for it",
    "hint.future.each_other": "let one of the tasks finish without waiting for the others",
    "hint.joins.two": "let one of them finish without joining the other",
    "hint.joins.many": "let one of them finish without joining the next",
    "hint.lock.join": "release {name} before waiting for the end of a thread that needs it",
    "hint.lock.future": "release {name} before waiting for a task that needs it",
    "hint.lock.queue": "do not wait on a queue while holding a lock: release {name} first",
    "hint.lock.other": "do not wait while holding a lock that the other side needs: release {name} first",
    "hint.lock.release": "release {name} on every path, best with `with {bare}:`",
    "hint.future.pool": "give the pool more workers, or do not wait inside a task for another task of the same pool",
    "hint.future.unset": "whoever made the future must call `set_result()` or `set_exception()` on every path",
    "hint.queue.join": "call `task_done()` once for each `get()`, in a `finally`",
    "hint.queue.get": "send one sentinel (for example None) per consumer, or use `{bare}.shutdown()`",
    "hint.queue.put": "let somebody take from {name} while it is being filled, or make it larger",
    "hint.simple.get": "send one sentinel (for example None) per consumer",
    "hint.condition": "test the state with `wait_for` while holding the lock, and notify after changing it",
    "hint.event": "call `set()` on every path of the thread that is waited for, for example in a `finally`",
    "hint.semaphore": "give each permit back on every path, best with `with {bare}:`",
    "hint.barrier": "the barrier has {parties} parties but only {n} threads come to it: make the numbers equal, "
    "and let a party that gives up call `abort()`",
    "hint.barrier.one": "the barrier has {parties} parties but only 1 thread comes to it: make the numbers equal, "
    "and let a party that gives up call `abort()`",
    "hint.orphan.forked": "hold no lock across `fork`: fork before starting threads, or use the `spawn` start method",
    "hint.orphan.ended": "release {name} before the thread ends, best with `with {bare}:`",
    # What a hint says instead of a name that cannot be typed.
    "it.some": "some {kind}",
    "it.lock": "the lock",
    "it.queue": "the queue",
    # What precedes a report that is only printed.
    "report.prefix": "phalanx.DeadlockError (reported, not raised): ",
}
