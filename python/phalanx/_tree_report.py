"""A deadlock among several processes, in words. The rows come as text: their threads may live in other processes."""

from __future__ import annotations

import threading

from phalanx import _core
from phalanx._naming import LOOKED_AT_PER_THREAD, STEPS, Names, Stacks
from phalanx._peek import children, frame_locals, module_of
from phalanx.errors import DeadlockError, WaitingThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType
    from typing import Any

HEADS = {
    ("cycle", 1): "a thread waits for a lock that it holds itself",
    ("cycle", 2): "2 processes wait for each other",
    ("cycle", 0): "{n} processes wait for each other in a circle",
    ("asleep", 1): "process {one} is asleep and nobody is left to wake it",
    ("asleep", 2): "both processes are asleep and nobody is left to wake them",
    ("asleep", 0): "all {n} processes are asleep and nobody is left to wake them",
}
PHRASES = {
    "Lock": "waits for {it}",
    "RLock": "waits for {it}",
    "Condition": "waits for a notify of {it}",
    "Semaphore": "waits for a permit of {it}",
    "Event": "waits for {it} to be set",
    "Barrier": "waits at {it}",
    "Process.join": "waits for the end of process {pid}",
    "Queue.get": "waits for an item from {it}",
    "Queue.put": "waits for room in {it}",
    "Queue.join": "waits for the unfinished tasks of {it}",
    "Connection.recv": "waits to receive from {it}",
    "Connection.send": "waits for room in {it}",
}
HINTS = {
    "cycle": "take the locks in one order in every process",
    "Connection.recv": "one side has to send first",
    "Queue.get": "put a last item for each getter, such as None, when there is no more work",
    "Queue.put": "get from the queue somewhere, or make it without a maxsize",
    "Queue.join": "call task_done() once for each item that was got",
    "Lock": "release the lock before the end of whoever took it, best with `with lock:`",
    "RLock": "release the lock before the end of whoever took it, best with `with lock:`",
    "Condition": "notify after the waiter has begun to wait, or wait in a loop on what the notification says",
    "Event": "set the event on every path, also when something fails",
    "Semaphore": "release the semaphore on every path, best with `with semaphore:`",
    "Barrier": "as many threads have to come as the barrier was made for",
}


def build(snapshot: Mapping[str, Any]) -> DeadlockError:
    """The error for a snapshot of several processes."""
    rows: Sequence[Mapping[str, Any]] = snapshot["tree"]
    cause: str = snapshot["cause"]
    pids = list(dict.fromkeys(row["pid"] for row in rows))
    n = len(pids)
    head = HEADS[cause, n if n <= 2 else 0].format(n=n, one=_process(rows[0]))
    if cause == "cycle" and n == 1 and len(rows) > 1:
        head = f"{len(rows)} threads wait for each other"
    names = _names(rows)
    who = [_who(row) for row in rows]
    phrases = [_phrase(row, names) for row in rows]
    width, phrase_width = max(map(len, who)), max(map(len, phrases))
    lines = [head]
    for row, title, phrase in zip(rows, who, phrases, strict=True):
        details = [row["kind"]]
        if row["place"]:
            details.append(_short(row["place"]))
        if row["taken"]:
            by = f" by {_process(rows[row['owner']])}" if row["owner"] >= 0 else ""
            details.append(f"taken{by} at {_short(row['taken'])}")
        lines.append(f"  {title.ljust(width)}  {phrase.ljust(phrase_width)}  ({', '.join(details)})")
    victim = next((row for row in rows if row["victim"]), rows[0])
    hint = HINTS["cycle"] if cause == "cycle" and n > 1 else HINTS.get(victim["kind"])
    if hint:
        lines.append(f"hint: {hint}")
    threads = [
        WaitingThread(_who(row), 0, row["pid"], _it(row, names), row["place"] or None, (), row["kind"]) for row in rows
    ]
    return DeadlockError("\n".join(lines), cause, threads, hint)


def _process(row: Mapping[str, Any]) -> str:
    return f'"{row["process"]}" ({row["pid"]})' if row["process"] else str(row["pid"])


def _who(row: Mapping[str, Any]) -> str:
    thread = row["thread"]
    return f"Process {_process(row)}" + (f' Thread "{thread}"' if thread and thread != "MainThread" else "")


def _names(rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """A name for each thing: what this thread calls it, else its kind, with a letter where there are several."""
    things: dict[str, list[int]] = {}
    for row in rows:
        if row["kind"] != "Process.join":
            kind = row["kind"].partition(".")[0]
            known = things.setdefault(kind, [])
            if row["thing"] not in known:
                known.append(row["thing"])
    names = {}
    for kind, known in things.items():
        for index, thing in enumerate(known):
            names[thing] = f"the {kind}" if len(known) == 1 else f"{kind} {_letters(index)}"
    return names | _own_names(rows)


def _own_names(rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """What the variables of this thread call the things. Those that it cannot see are left out."""
    kinds = {row["thing"]: row["kind"] for row in rows if row["kind"] != "Process.join"}
    here, stacks = threading.get_ident(), Stacks()
    try:
        frames = stacks.frames(here)
        objects: dict[int, object] = {}
        for candidate in _visible(frames):
            for thing in kinds.keys() - objects.keys():
                if _core.is_part_of(thing, candidate):
                    objects[thing] = candidate
        names = Names(objects.values())
        names.search(here, frames)
        named = {thing: names.typed(found, kinds[thing]) for thing, found in objects.items()}
        return {thing: name for thing, name in named.items() if name}
    finally:
        stacks.close()


def _visible(frames: Sequence[FrameType]) -> Iterator[object]:
    """What can be reached from the variables of some frames, in a few steps each."""
    seen: set[int] = set()
    for frame in frames:
        for variables in (frame_locals(frame), frame.f_globals):
            level = [value for _, value in list(dict.items(variables))]
            for step in range(STEPS + 1):
                following: list[object] = []
                for value in level:
                    if id(value) in seen or len(seen) > LOOKED_AT_PER_THREAD:
                        continue
                    seen.add(id(value))
                    yield value
                    if step < STEPS:
                        try:
                            following += [child for _, _, child in children(value, module_of(frame), False)]
                        except RuntimeError:  # the container changed under our eyes
                            continue
                level = following


def _letters(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def _it(row: Mapping[str, Any], names: Mapping[int, str]) -> str:
    return str(row["thing"]) if row["kind"] == "Process.join" else names[row["thing"]]


def _phrase(row: Mapping[str, Any], names: Mapping[int, str]) -> str:
    return PHRASES.get(row["kind"], "waits for {it}").format(it=_it(row, names), pid=row["thing"])


def _short(place: str) -> str:
    return place.rpartition("/")[2]
