"""The facts of a deadlock, one `Wait` for each thread of the core's snapshot, with names and places in words."""

from __future__ import annotations

import os
import threading
from itertools import islice

from ._naming import Names, Stacks, short_places
from ._peek import ascii_text, is_text, line_at, peek
from .errors import DEADLOCK_TEXTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType
    from typing import Any, TypeVar

    from ._naming import Place

    Result = TypeVar("Result")

# How many threads are searched for names.
SEARCHED = 32

LOCKS = frozenset({"Lock", "RLock"})
QUEUES = frozenset({"Queue.get", "Queue.put", "Queue.join", "SimpleQueue.get"})
# Kinds of wait whose object belongs to the thread that took it until it gives it back.
_HELD = LOCKS | {"Condition", "Semaphore"}
_WITHOUT_OBJECT = frozenset({"shutdown", "Executor idle"})

# The threads that a fork left behind, by ident: noted before a fork, kept only in the child.
_lost_in_fork: dict[int, str | None] = {}


def say(key: str, **values: object) -> str:
    """One text of the table, filled in."""
    return DEADLOCK_TEXTS[key].format(**values)


class Wait:
    """One thread of the snapshot: what it waits for, where, and what it holds meanwhile."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.ident: int = entry.get("ident") or 0
        self.native_id: int = entry.get("native_id") or 0
        self.kind: str = str(entry.get("kind") or "")
        self.obj: Any = entry.get("object")
        self.owner: int | None = entry.get("owner")
        self.owner_alive: bool = bool(entry.get("owner_alive"))
        # The owner, if it is alive. The ident of one that has ended may belong to another thread by now.
        self.holder = self.owner if self.owner_alive else None
        self.taken: tuple[CodeType, int] | None = entry.get("taken")
        self.forked: bool | None = entry.get("forked")
        self.place: Place | None = None
        self.in_pool = False
        # The waits whose object this thread holds, and those whose task it runs.
        self.holds: list[Wait] = []
        self.runs: list[Wait] = []

    @property
    def taken_place(self) -> Place | None:
        if self.taken is None:
            return None
        return quietly(None, _place_of, *self.taken)

    @property
    def lost_in_fork(self) -> bool:
        """Whether the owner is a thread that this process never had, because it was forked."""
        return self.owner in _lost_in_fork if self.forked is None else self.forked


def _place_of(code: CodeType, offset: int) -> Place | None:
    return (code.co_filename, line_at(code, offset))


class Facts:
    """Everything a report speaks of. It refers to objects of the program: to be closed as soon as the text is made."""

    def __init__(self, snapshot: Mapping[str, Any]) -> None:
        self.cause: str = str(snapshot.get("cause"))
        self.waits = [Wait(entry) for entry in snapshot.get("threads") or ()]
        if self.cause == "asleep":
            self.waits.sort(key=lambda wait: wait.kind == "Executor idle")
        self.by_ident = {wait.ident: wait for wait in self.waits}
        self._link()
        self.names = Names(wait.obj for wait in self.waits if wait.kind not in ("Thread.join", "shutdown"))
        quietly(None, self._search)
        places = [place for wait in self.waits for place in (wait.place, wait.taken_place) if place is not None]
        self._short: dict[Place, str] = quietly({}, short_places, places)

    def close(self) -> None:
        """Let go of the program's objects, without a garbage collection."""
        for wait in self.waits:
            wait.obj = wait.taken = None
            wait.holds.clear()
            wait.runs.clear()

    def _link(self) -> None:
        for wait in self.waits:
            owner = self.by_ident.get(wait.holder) if wait.holder is not None else None
            if owner is None or wait.obj is None:
                continue
            known = owner.runs if wait.kind == "Future.result" else owner.holds if wait.kind in _HELD else None
            if known is not None and all(other.obj is not wait.obj for other in known):
                known.append(wait)

    def _search(self) -> None:
        stacks = Stacks()
        try:
            for wait in self.waits:
                self.names.concerns(wait.obj, wait.ident, wait.holder)
                # Without its object the thread has been woken since the snapshot, and may be anywhere.
                if wait.obj is not None or wait.kind in _WITHOUT_OBJECT:
                    wait.place = quietly(None, stacks.place, wait.ident)
                wait.in_pool = bool(wait.runs) or quietly(False, stacks.runs_pool_task, wait.ident)
            for wait in islice(self.waits, SEARCHED):
                quietly(None, self._search_thread, stacks, wait.ident)
            main = main_ident()
            if main is not None and main not in self.by_ident and self.names.unclear():
                quietly(None, self._search_thread, stacks, main)
        finally:
            stacks.close()

    def _search_thread(self, stacks: Stacks, ident: int) -> None:
        taken = [wait.taken for wait in self.waits if wait.holder == ident and wait.taken is not None]
        self.names.search(ident, stacks.frames(ident), taken)

    def name(self, wait: Wait) -> str:
        """The name of what a thread waits for."""
        if wait.obj is None:
            return say("it.some", kind=wait.kind.partition(".")[0])
        return self.names.of(wait.obj, wait.kind)

    def typed(self, wait: Wait) -> str | None:
        """The same, if the reader can type it."""
        return self.names.typed(wait.obj, wait.kind) if wait.obj is not None else None

    def short(self, place: Place | None) -> str | None:
        return self._short.get(place) if place is not None else None

    def title(self, ident: int | None, thread: object = None) -> str:
        """``Thread "name"``, or the number of a thread that has no name."""
        name = thread_name(ident, thread)
        if name is None:
            name = ended_name(ident)  # woken and gone since the snapshot
        return say("row.nameless", ident=ident) if name is None else say("row.thread", name=ascii_text(name))

    def owner_title(self, wait: Wait) -> str:
        """The same for the thread that holds what this one waits for; that thread may have ended."""
        if wait.owner_alive:
            return self.title(wait.owner)
        name = ended_name(wait.owner)
        if name is not None:
            return say("row.thread", name=ascii_text(name))
        return say("thread.forked" if wait.lost_in_fork else "thread.ended")

    def target(self, wait: Wait) -> str:
        """The thread that a join, or the end of the interpreter, waits for."""
        if wait.owner is None and wait.obj is None:
            return say("thread.others")
        ident = wait.owner if wait.owner is not None else peek(wait.obj, "_ident")
        return self.title(ident, wait.obj)

    def arrived(self, wait: Wait) -> int:
        """How many threads of the report wait at the same barrier."""
        at_one = [other for other in self.waits if other.kind == wait.kind]
        barriers = {id(other.obj) for other in at_one if other.obj is not None}
        # Who has been woken since the snapshot has no object any more. If there is only one, it was that.
        return sum(other.obj is wait.obj or (other.obj is None and len(barriers) == 1) for other in at_one)

    def ring(self) -> list[Wait]:
        """The threads that wait in a circle, each for what the next one holds; empty if there is no circle."""
        if self.cause == "cycle":
            return self.waits
        for start in self.waits:
            path: list[Wait] = []
            step: Wait | None = start
            while step is not None and step not in path:
                path.append(step)
                step = self.by_ident.get(step.holder) if step.holder is not None else None
            if step is not None:
                return path[path.index(step) :]
        return []


def quietly(instead: Result, function: Callable[..., Result], *args: Any) -> Result:
    """What the function returns, or `instead` if it fails: a report loses a detail, never itself."""
    try:
        return function(*args)
    except Exception:
        return instead


def thread_name(ident: int | None, thread: object = None) -> str | None:
    """The name of a running thread, or None if it has none: it was not started by `threading`."""
    name = peek(_table("_active").get(ident) if thread is None else thread, "_name")
    return str.__str__(name) if is_text(name) else None


def ended_name(ident: int | None) -> str | None:
    """The name of a thread that has ended or was left behind by a fork, as long as it is certain which one that was."""
    if ident in _lost_in_fork:
        return _lost_in_fork[ident]
    running = {id(thread) for thread in tuple(_table("_active").values())}
    known: list[object] = quietly([], _all_known)
    ended = [thread for thread in known if id(thread) not in running and peek(thread, "_ident") == ident]
    name = peek(ended[0], "_name") if len(ended) == 1 else None
    return str.__str__(name) if is_text(name) else None


def pool_size(ident: int) -> int:
    """How many threads share the name of this pool worker up to its number."""
    prefix, _, number = (thread_name(ident) or "").rpartition("_")
    if not prefix or not number.isdigit():
        return 0
    names = [thread_name(other) or "" for other in tuple(_table("_active"))]
    return sum(name.rpartition("_")[0] == prefix and name.rpartition("_")[2].isdigit() for name in names)


def main_ident() -> int | None:
    found = peek(vars(threading).get("_main_thread"), "_ident")
    return found if type(found) is int else None


def _table(name: str) -> dict[int | None, Any]:
    table = vars(threading).get(name)
    return table if type(table) is dict else {}


def _all_known() -> list[object]:
    """Every Thread object that is still alive, ended or not."""
    references: Any = peek(vars(threading).get("_dangling"), "data")
    return [reference() for reference in list(references or ())]


def _before_fork() -> None:
    for ident in tuple(_table("_active")):
        if ident is not None:
            _lost_in_fork[ident] = thread_name(ident)


def _after_fork_in_child() -> None:
    _lost_in_fork.pop(threading.get_ident(), None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_lost_in_fork.clear, after_in_child=_after_fork_in_child)
