"""Deadlocks in words: from the snapshot that the core hands over to the error that a user reads.

`build_error` makes the exception, `describe` prints the same text and lets the program go on. Both run in the thread
that found the deadlock while the others sleep with their locks held, so they wait for nothing, run no code of the
program, and give less detail rather than fail. The garbage collector is held off meanwhile: a finalizer may take locks.

A snapshot is ``{"cause": ..., "victim": ident, "threads": [...]}``; a thread of it is a dict with the keys ``ident``,
``native_id``, ``kind``, ``object``, ``owner``, ``owner_alive`` and ``taken``, and with ``forked`` where the core knows
whether the owner was lost in a fork.
"""

from __future__ import annotations

import gc
import io
import os
import sys

from ._advice import advice, headline
from ._peek import ask, peek, peek_int
from ._waits import LOCKS, Facts, pool_size, quietly, say, thread_name
from .errors import DEADLOCK_TEXTS, DeadlockError, HeldObject, WaitingThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ._naming import Place
    from ._waits import Wait

__all__ = ["build_error", "describe"]

# Rows printed, and the widest column that others are aligned to.
ROWS = 12
WIDEST = 80


def build_error(snapshot: Mapping[str, Any]) -> DeadlockError:
    """The exception for a deadlock. Never waits and never fails; it keeps text and numbers, no frames and no locks."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _build(snapshot)
    except Exception:  # the thread must hear of the deadlock, if not of its details
        return DeadlockError(say("head.unknown"))
    finally:
        if collecting:
            gc.enable()


def describe(snapshot: Mapping[str, Any]) -> str:
    """Print the report to standard error and return what was printed: the mode ``PHALANX_DEADLOCK=report``."""
    text = f"{say('report.prefix')}{build_error(snapshot)}\n"
    quietly(None, _print, text)
    return text


def _print(text: str) -> None:
    # A stream of the program's own may take a lock to write; only the plain ones are trusted not to.
    stream = sys.stderr
    if stream is not sys.__stderr__ and (type(stream) is io.StringIO or type(stream) is io.TextIOWrapper):
        stream.write(text)
        return
    data = text.encode("ascii", "backslashreplace")
    while data:
        data = data[os.write(2, data) :]


def _build(snapshot: Mapping[str, Any]) -> DeadlockError:
    if "tree" in snapshot:
        from phalanx import _tree_report

        return _tree_report.build(snapshot)
    facts = Facts(snapshot)
    try:
        return _written(facts)
    finally:
        facts.close()


def _written(facts: Facts) -> DeadlockError:
    head = quietly(say("head.unknown"), headline, facts)
    rows: list[str] = quietly([], _table, facts)
    hint = quietly(None, advice, facts)
    lines = [head, *rows] if hint is None else [head, *rows, f"hint: {hint}"]
    threads = [record for wait in facts.waits if (record := quietly(None, _record, facts, wait)) is not None]
    return DeadlockError("\n".join(lines), facts.cause, threads, hint)


def _record(facts: Facts, wait: Wait) -> WaitingThread:
    holds = [HeldObject(facts.name(held), held.kind, _full(held.taken_place)) for held in wait.holds]
    name, at = thread_name(wait.ident), _full(wait.place)
    return WaitingThread(name, wait.ident, wait.native_id, _waits_for(facts, wait), at, holds, wait.kind)


def _waits_for(facts: Facts, wait: Wait) -> str:
    if wait.kind in ("Thread.join", "shutdown"):
        return facts.target(wait)
    return "" if wait.obj is None else facts.name(wait)


def _full(place: Place | None) -> str | None:
    return None if place is None else f"{place[0]}:{place[1]}"


def _table(facts: Facts) -> list[str]:
    """One line for each thread, in columns: who, what it holds, what it waits for, the details."""
    shown = facts.waits if len(facts.waits) <= ROWS + 1 else facts.waits[:ROWS]
    pad = _width([facts.name(wait.holds[0]) for wait in shown if len(wait.holds) == 1])
    columns = [
        [facts.title(wait.ident) for wait in shown],
        [_holds(facts, wait, pad) for wait in shown],
        [_phrase(facts, wait) for wait in shown],
    ]
    # What has no details after it need not be in line with those that do.
    detailed = [text for text, wait in zip(columns[2], shown, strict=True) if wait.kind != "shutdown"]
    widths = [_width(columns[0]), _width(columns[1]), _width(detailed)]
    lines = []
    for index, wait in enumerate(shown):
        who, holds, phrase = (column[index].ljust(width) for column, width in zip(columns, widths, strict=True))
        details = _details(facts, wait)
        line = "  ".join(["", who, *([holds] if any(columns[1]) else []), phrase])
        lines.append(f"{line} ({', '.join(details)})" if details else line.rstrip())
    if len(shown) < len(facts.waits):
        lines.append(f"  {say('row.more', n=len(facts.waits) - len(shown))}")
    return lines


def _width(texts: list[str]) -> int:
    return max((len(text) for text in texts if len(text) <= WIDEST), default=0)


def _holds(facts: Facts, wait: Wait, pad: int) -> str:
    pad = pad if len(wait.holds) == 1 else 0
    parts = []
    for held in wait.holds:
        at = facts.short(held.taken_place)
        parts.append(f"{facts.name(held).ljust(pad)} ({held.kind}{f', {at}' if at else ''})")
    texts = [say("row.holds", what=", ".join(parts))] if parts else []
    if wait.runs:
        texts.append(say("row.runs", what=", ".join(facts.name(run) for run in wait.runs)))
    return ", ".join(texts)


def _phrase(facts: Facts, wait: Wait) -> str:
    """What a thread waits for."""
    key = f"wait.{wait.kind}"
    count = quietly(None, _unfinished, wait.obj) if wait.kind == "Queue.join" else None
    if count is not None and count > 0:
        key += ".one" if count == 1 else ".counted"
    name = facts.name(wait)
    thread = facts.target(wait) if wait.kind in ("Thread.join", "shutdown") else ""
    return say(key if key in DEADLOCK_TEXTS else "wait.other", name=name, n=count, thread=thread)


def _unfinished(queue: object) -> int | None:
    count = peek_int(queue, "unfinished_tasks", "_open_unfinished")
    count = ask(queue, "_unfinished") if count is None else count
    return count if type(count) is int else None


def _details(facts: Facts, wait: Wait) -> list[str]:
    """What stands in parentheses: the kind, the state of the object, the place."""
    details = [] if wait.kind == "shutdown" else [_kind(wait), *_state(facts, wait)]
    at = facts.short(wait.place)
    if at is not None and wait.kind not in ("shutdown", "Executor idle"):
        details.append(at)
    if wait.kind in LOCKS and wait.holder not in facts.by_ident:
        taken = facts.short(wait.taken_place)
        gone = facts.cause == "orphan" or wait.lost_in_fork
        if taken is not None and (wait.owner is not None or gone):
            details.append(say("detail.taken_by", place=taken, thread=facts.owner_title(wait)))
        elif taken is not None:
            details.append(say("detail.taken_at", place=taken))
    return details


def _kind(wait: Wait) -> str:
    return say("detail.idle") if wait.kind == "Executor idle" else say("detail.kind", kind=wait.kind)


def _state(facts: Facts, wait: Wait) -> list[str]:
    if wait.kind == "Queue.put":
        maxsize = peek_int(wait.obj, "maxsize", "_maxsize")
        return [] if maxsize is None else [say("detail.maxsize", n=maxsize)]
    if wait.kind == "Barrier":
        parties = peek_int(wait.obj, "_parties", "parties")
        return [] if parties is None else [say("detail.arrived", n=facts.arrived(wait), parties=parties)]
    if wait.kind != "Future.result":
        return []
    if wait.owner is not None:
        return [say("detail.runs_in", thread=facts.owner_title(wait))]
    if peek(wait.obj, "_state") not in (None, "PENDING"):
        return []
    workers = pool_size(wait.ident) if wait.in_pool else 0
    if workers == 0:
        return [say("detail.pending")]
    return [say("detail.pending.one") if workers == 1 else say("detail.pending.many", n=workers)]
