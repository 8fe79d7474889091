"""The workers of a pool: who sits where, and how many sat there before."""

from __future__ import annotations

import os
import signal
import time

from phalanx import _core
from phalanx.multiprocessing import _blas, _shared, _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Staff", "stat", "stop"]

_STOPPING = 0.1  # seconds that a process may take to stop


class Staff:
    """The workers. What changes them is called under the crew's lock."""

    def __init__(
        self,
        start: Callable[..., Any],
        orders: tuple[Any, ...],
        more_orders: tuple[Any, ...],
        forget: Callable[[Any], None] | None,
    ) -> None:
        self._start = start  # (target, args) -> a started process
        self._orders = orders, more_orders  # what each is told, but for its seat between
        self._forget = forget  # called with each worker that has ended
        self.workers: list[Any] = []
        self._seats: dict[Any, int] = {}  # worker -> its seat
        self._restarts: dict[int, int] = {}

    def start(self) -> None:
        """Start one more."""
        taken = set(self._seats.values())
        seat = next(seat for seat in range(len(taken) + 1) if seat not in taken)
        before, after = self._orders
        worker = self._start(_begin, (*before, seat, *after))
        self.workers.append(worker)
        self._seats[worker] = seat

    def leave(self, worker: Any, forget: bool) -> int | None:
        """One has ended. Return where it sat."""
        if worker not in self.workers:
            return None
        self.workers.remove(worker)
        if self._forget and forget:
            self._forget(worker)
        return self._seats.pop(worker)

    def replaced(self, seat: int | None) -> None:
        """Count that the worker of a seat is followed by another."""
        if seat is not None:
            self._restarts[seat] = self._restarts.get(seat, 0) + 1

    def statistics(self, board: _core.Board) -> list[dict[str, Any]]:
        """What the workers of each seat have done so far: see `Pool.statistics`."""
        sitting = {seat: worker for worker, seat in list(self._seats.items())}
        rows = []
        for seat in range(max([*sitting, *self._restarts], default=-1) + 1):
            tasks, busy, waiting, size = board.done_by(seat)
            worker = sitting.get(seat)
            row = {"worker": worker.name if worker else None, "pid": worker.pid if worker else None}
            times = {"busy": busy / 1e9, "waiting": waiting / 1e9}
            rows.append({**row, "tasks": tasks, **times, "bytes": size, "restarts": self._restarts.get(seat, 0)})
        return rows


def stat(pid: int) -> list[str]:
    """What `/proc/PID/stat` says after the name of the process: its state first. Raises OSError."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def stop(pid: int) -> bool:
    """Stop a process with all its threads. False: it is gone."""
    end = time.monotonic() + _STOPPING
    try:
        os.kill(pid, signal.SIGSTOP)
        while time.monotonic() < end:
            state = stat(pid)[0]
            if state in "TtZX":
                return state in "Tt"
            time.sleep(0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return True  # in the kernel, where it cannot finish anything of ours


def _begin(
    threads: int | None,
    board: Any,
    bell: Any,
    place: Any,
    reports: Any,
    style: int,
    seat: int,
    initializer: Any,
    initargs: Any,
    max_tasks: Any,
) -> None:
    functions = _core.SharedTable.find(*place)
    _blas.hold(threads)
    _shared.arrive(functions)
    _worker.run(board, bell, functions, reports, style, seat, initializer, initargs, max_tasks)
