"""A million tasks while a worker is killed every 50 ms: every result right, nothing done for another, memory flat.

Run as a program: `python tests/faults/soak_pool.py [TASKS] [fork|spawn|forkserver] [bundles|tasks|submits]`.
It prints what it has counted, and fails on a wrong result, a lost one beyond those in the hands of the dead, or
memory that grows.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import phalanx
from phalanx import multiprocessing as mp

EVERY = 0.05  # seconds between two deaths
PAGE = os.sysconf("SC_PAGE_SIZE")
WINDOW = 20_000  # submitted at a time
GROWTH = 32 << 20  # bytes that the parent may grow by after the first tenth


def square(n: int) -> int:
    return n * n


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Reaper(threading.Thread):
    """Kills one worker after the other."""

    def __init__(self, pool: Any) -> None:
        super().__init__(daemon=True)
        self._pool = pool
        self._over = threading.Event()
        self.killed = 0

    def run(self) -> None:
        dice = random.Random(1)
        while not self._over.wait(EVERY):
            # Those that have begun: where none ever begins, the pool says so and ends.
            begun = self._pool._crew.tender.ready
            workers = [worker for worker in list(self._pool._pool) if worker.pid in begun and worker.is_alive()]
            if workers:
                try:
                    os.kill(dice.choice(workers).pid, signal.SIGKILL)
                    self.killed += 1
                except ProcessLookupError:
                    pass

    def stop(self) -> None:
        self._over.set()
        self.join()


def askers(pool: Any, tasks: int, kind: str) -> Iterator[Callable[[], int]]:
    """For each task what returns its result or raises its error."""
    if kind == "submits":
        for first in range(0, tasks, WINDOW):
            for result in [pool.apply_async(square, (n,)) for n in range(first, min(tasks, first + WINDOW))]:
                yield result.get
        return
    view = pool if kind == "bundles" else pool.options(timeout=60)  # tasks with options travel alone
    answers = view.imap(square, range(tasks))
    for _ in range(tasks):
        yield answers.__next__
    assert next(answers, None) is None


def soak(tasks: int, method: str = "fork", kind: str = "bundles") -> dict[str, int]:
    """Do so many tasks and return what was counted."""
    counted = {"tasks": tasks, "right": 0, "lost": 0, "wrong": 0, "killed": 0, "grown": 0}
    first = 0
    with mp.get_context(method).Pool(2) as pool:
        reaper = Reaper(pool)
        reaper.start()
        for n, ask in enumerate(askers(pool, tasks, kind)):
            try:
                answer = ask()
            except phalanx.WorkerDied:
                counted["lost"] += 1
            else:
                counted["right" if answer == n * n else "wrong"] += 1
            if n == tasks // 10:
                first = resident()
        reaper.stop()
        counted["killed"] = reaper.killed
        counted["grown"] = resident() - first
    return counted


def bad(counted: dict[str, int]) -> list[str]:
    """What is not as it must be."""
    found = []
    if counted["wrong"] or counted["right"] + counted["lost"] != counted["tasks"]:
        found.append("a wrong or a missing result")
    if counted["lost"] > counted["killed"]:
        found.append("more tasks lost than workers killed")
    if counted["grown"] > GROWTH:
        found.append("memory grows")
    return found


if __name__ == "__main__":
    defaults = ["1000000", "fork", "bundles"]
    many, method, kind = [*sys.argv[1:], *defaults[len(sys.argv) - 1 :]]
    numbers = soak(int(many), method, kind)
    print(" ".join(f"{key}={value}" for key, value in numbers.items()))
    sys.exit("; ".join(bad(numbers)) or 0)
