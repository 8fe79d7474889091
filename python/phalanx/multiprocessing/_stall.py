"""Tasks that travel together and wait for each other.

One by one, the oldest tasks run, as many as there are workers. In a bundle a task can begin before older ones, which
lie behind the first task of another bundle; if it waits for one of those, and so does every worker, nothing moves any
more. So where nothing has moved for a while and all workers sleep over their tasks, what they have not begun goes
alone, the oldest first, and one more worker begins with it, then another one, at the most as many as the pool has: then
all run that would have. Those workers go once there is nothing to do, and tasks may travel together again.
"""

from __future__ import annotations

import time

from phalanx.multiprocessing._staff import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from phalanx.multiprocessing._crew import Crew

__all__ = ["Stall"]

_PAUSE = 0.9  # seconds between two looks
_STATE, _UTIME, _STIME = 0, 11, 12  # of /proc/PID/stat, after the name


class Stall:
    """Looks whether a crew stands still. Called by its tender."""

    def __init__(self) -> None:
        self._next = 0.0
        self._seen: Any = None

    def look(self, crew: Crew) -> None:
        """Let the oldest tasks begin if nothing moves. Costs nothing between two looks."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PAUSE
        if not crew.unfinished:
            crew.dismiss()
        if not crew.under_way and not crew.is_upset:
            self._seen = None
            return
        before, self._seen = self._seen, _picture(crew)
        if self._seen is None or self._seen != before:
            return
        if crew.unbundle() and crew.spare < crew.most_spare:
            crew.spare += 1
            crew.tender.hire_soon()


def _picture(crew: Crew) -> Any:
    """What would change if anything moved; None: something does."""
    if len(crew.workers) < 2:
        return None
    running = crew.in_hand()
    if len({number for number, _, _ in running}) < len(crew.workers):
        return None
    spent = []
    for worker in list(crew.workers):
        try:
            fields = stat(worker.pid)
        except OSError:
            return None
        if fields[_STATE] not in "SD":
            return None
        spent.append((worker.pid, fields[_UTIME], fields[_STIME]))
    return running, spent
