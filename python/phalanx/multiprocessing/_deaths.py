"""How an error speaks of a process that died with something in its hands."""

from __future__ import annotations

import os
import select
from multiprocessing import process

from phalanx import _core
from phalanx.errors import OwnerDied
from phalanx.multiprocessing._reasons import reason as reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from phalanx._pool_errors import WorkerDied

_process: Any = process

_TELLING = 100  # milliseconds that a fork server takes at most from reaping its child to telling the parent

_HINTS = {
    "Lock": "what it guards may be half changed; look at it, then lock.recover() makes the lock free again",
    "RLock": "what it guards may be half changed; look at it, then lock.recover() makes the lock free again",
    "Condition": "what its lock guards may be half changed; look at it, then recover() the lock",
    "Semaphore": "semaphore.recover() gives its permits back",
    "JoinableQueue": "put its work again if it matters; queue.recover() counts what it had as done",
}


def owner_died(kind: str, pid: int, name: str, status: int | None, place: str, count: int) -> OwnerDied:
    """The error for something of `kind` that the dead process `pid` had, taken at `place` ("file:line" or "").

    `status` is its wait status, None where nobody saw it. `count` is how many permits or items it had.
    """
    reason = _told_of(pid) if status is None else reason_of(os.waitstatus_to_exitcode(status))
    who = f'process "{name}" (pid {pid})' if name else f"process {pid}"
    what = {
        "JoinableQueue": f"{count} unfinished item{'s' * (count != 1)} of this queue",
        "Semaphore": "permits of this semaphore",
        "Condition": "the lock of this condition",
    }.get(kind, f"this {kind}")
    text = f"{who} died with {what} in its hands: {reason}"
    if place:
        text += f"\n  taken at {place}"
    hint = _HINTS.get(kind)
    if hint:
        text += f"\nhint: {hint}"
    return OwnerDied(text, pid=pid, reason=reason, taken_at=place or None, kind=kind)


def _told_of(pid: int) -> str:
    """How a process ended, in words, of which the tree does not know it: a fork server tells only the parent."""
    for child in list(_process._children):
        popen = child._popen
        if popen is not None and popen.pid == pid:
            if popen.poll() is None:
                news = select.poll()
                news.register(popen.sentinel, select.POLLIN)
                news.poll(_TELLING)
            reason: str | None = popen.exit_reason()
            return reason or "ended, and nobody saw how"
    return "ended, and nobody saw how"


# By how far it had come, as `Board.collect_from_the_dead` tells it.
_EVENTS = ("task taken", "task started", "task ended, its result on the way")


def worker_died(task: str, number: int, stage: int, ago: float | None, workers: list[Any]) -> WorkerDied:
    """The error of a task, described in `task`, whose worker, of that number in the tree, ended over it.

    `stage` and `ago`: how far it had come, and how many seconds before. `workers`: the processes that it may be.
    """
    from phalanx._pool_errors import WorkerDied

    pid, name, status = _core.Peer(number).life()
    # A fork server tells the end of its children to their parent, and only then the tree knows.
    if status is not None:
        code: int | None = os.waitstatus_to_exitcode(status)
    else:
        code = next((other.exitcode for other in workers if other.pid == pid), None)
    reason = "ended, and nobody saw how" if code is None else reason_of(code)
    if code == 0:
        reason = "exited with code 0 in the middle of it"
    event = _EVENTS[stage] if ago is None else f"{_EVENTS[stage]}, {ago:.2f} s before"
    text = (
        f'worker "{name}" (pid {pid}) died with {task} in its hands: {reason}\n'
        f"  last event: {event}\n"
        "hint: only this task is lost; options(retries=1) would run it again in another worker"
    )
    return WorkerDied(text, task=task, worker=name, pid=pid, reason=reason, last_event=event)
