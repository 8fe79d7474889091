"""The tasks of a pool that travel together: how they are looked after, and taken apart.

The protocol is in `crates/phalanx/src/pool/README.md`, "Bundles"; when a pool stands still over them, in `_stall.py`.
"""

from __future__ import annotations

from phalanx.multiprocessing._bundles import Bundle
from phalanx.multiprocessing._log import CUT, REVOKED, Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from phalanx.multiprocessing._job import Job

__all__ = ["Together"]


class Together(Log):
    """What a crew does with bundles. A part of `Crew`, which has what is only declared here."""

    size: int
    spare: int
    most_spare: int
    bundles: bool
    workers: list[Any]
    _bundles: bool
    _turn: int
    _jobs: dict[int, Job]

    @property
    def unfinished(self) -> int:
        """How many tasks have not ended."""
        raise NotImplementedError

    def is_running(self, job: Job) -> bool:
        """Say whether a worker has taken it."""
        raise NotImplementedError

    def look_at_bundles(self) -> None:
        """Tell what has ended in front of a slow task; let an idle worker have what others have not begun."""
        self._fill()
        with self._lock:
            starving = self.board.is_starving()
            jobs = list(self._jobs.values())
            self.under_way.intersection_update(jobs)
            for job in jobs:
                if isinstance(job, Bundle) and self.is_running(job):
                    if job.seen and starving:
                        self._take_back(job)
                    elif job.seen and job._slot is not None:
                        self.board.look(job._slot, self._jobs, self._found)
                    job.seen = True
        self._fill()

    def _take_back(self, bundle: Bundle, first: bool = False) -> None:
        """Under the lock: what no worker has begun of a bundle goes alone; in the tender it may go `first`."""
        slot = bundle._slot
        if slot is None or slot < 0:
            return
        if self.board.revoke(slot, self._jobs, self._found, (bundle, REVOKED, None)):
            self._take_apart(bundle, 0, first)
        elif self.board.cut(slot, self._jobs, self._found):
            for other, kind, sealed in reversed(self._found.copy()):
                if other is bundle and kind == CUT:
                    self._take_apart(bundle, sealed.begun, first)
                    break
        self.tender.ring()

    def _take_apart(self, bundle: Bundle, begun: int, first: bool = False) -> None:
        """Under the lock: those tasks from number `begun` on go alone."""
        singles = bundle.singles(begun)
        for single in singles:
            single._waits = True
        jobs = self._backlog.jobs
        if first:
            jobs.extendleft(singles[::-1])
        else:
            # One step for signals.
            jobs += singles
        bundle.kept = min(begun, bundle.kept)

    def in_hand(self) -> list[tuple[int, int, Any]]:
        """The workers that have a task, by their numbers in the tree; its slot, and how far it is if it is a bundle."""
        with self._lock:
            slots = [job._slot for job in self._jobs.values()]
            found = [(self.board.worker(slot), slot) for slot in slots if slot is not None and slot >= 0]
            return [(number, slot, self.board.progress(slot)) for number, slot in found if number]

    def unbundle(self) -> bool:
        """Tasks go alone from now on; what no worker has begun too, the oldest first. Say whether there is any.

        In the tender, where no signal interrupts it.
        """
        with self._lock:
            self.bundles = self._backlog.together = False
            self._turn += 1
            waiting = self._backlog.jobs
            before = len(waiting)
            for job in [*self._jobs.values()][::-1]:
                slot = job._slot
                if isinstance(job, Bundle):
                    self._take_back(job, first=True)
                elif slot is not None and self.board.revoke(slot, self._jobs, self._found, (job, REVOKED, None)):
                    job._slot, job._waits = None, True
                    waiting.appendleft(job)
            more = len(waiting) > before
        self._fill()
        return more

    @property
    def is_upset(self) -> bool:
        """Say whether `dismiss()` is to be called once there is nothing to do."""
        return self.spare > 0 or self.bundles is not self._bundles

    def dismiss(self) -> None:
        """If there is nothing to do, end the workers above `size`, and let tasks travel together again."""
        with self._lock:
            if self.unfinished:
                return
            self.bundles, self._backlog.together = self._bundles, True
            self.most_spare = self.size
            if self.spare:
                self.spare = 0
                for worker in self.workers[self.size :]:
                    worker.kill()
