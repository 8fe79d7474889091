"""Serial, threads, thread pool: what each is worth for work that waits and for work that computes.

    phalanx run examples/timing/timing.py
    phalanx run examples/timing/timing.py --tasks 12 --workers 4 --plot timing.png

Prints a chart of when each task ran: one row per thread, one bar per task, all rows of a chart to the same scale.
`--plot` draws the same chart as a picture if matplotlib is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

WIDTH = 60  # columns of the longest chart


@dataclass(frozen=True)
class Span:
    """When and where one task ran, in seconds since its run began."""

    task: int
    thread: str
    start: float
    end: float


@dataclass(frozen=True)
class Run:
    """All tasks done one way."""

    name: str
    seconds: float
    spans: list[Span]


class EchoServer:
    """Answers one byte per connection, after a while: the slow other side of the I/O-bound task."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self.socket.getsockname()
        threading.Thread(target=self.serve, name="echo", daemon=True).start()

    def serve(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        with connection:
            time.sleep(self.delay)
            connection.sendall(connection.recv(1))

    def ask(self) -> None:
        """The I/O-bound task: nearly all of its time is waiting."""
        with socket.create_connection(self.address) as connection:
            connection.sendall(b".")
            connection.recv(1)


def compute(rounds: int) -> float:
    """The CPU-bound task: pure Python arithmetic that never waits."""
    y = 0.001
    for _ in range(rounds):
        y = math.cos(y)
    return y


class Stopwatch:
    """Runs tasks and notes when."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.begun = time.perf_counter()

    def __call__(self, task: int) -> Span:
        start = time.perf_counter() - self.begun
        self.work()
        return Span(task, threading.current_thread().name, start, time.perf_counter() - self.begun)


def run_serial(watch: Stopwatch, tasks: int, _: int) -> list[Span]:
    return [watch(task) for task in range(tasks)]


def run_threads(watch: Stopwatch, tasks: int, workers: int) -> list[Span]:
    """As many threads as workers, which take task numbers from a queue until it is empty."""
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    spans: list[Span] = []
    for task in range(tasks):
        todo.put(task)

    def work() -> None:
        while True:
            try:
                task = todo.get_nowait()
            except queue.Empty:
                return
            spans.append(watch(task))

    threads = [threading.Thread(target=work, name=f"thread-{n + 1}") for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spans


def run_pool(watch: Stopwatch, tasks: int, workers: int) -> list[Span]:
    with ThreadPoolExecutor(workers, thread_name_prefix="pool") as pool:
        futures = {pool.submit(watch, task) for task in range(tasks)}
        return [future.result() for future in as_completed(futures)]


WAYS = {"serial": run_serial, "threads": run_threads, "thread pool": run_pool}


def measure(work: Callable[[], object], tasks: int, workers: int) -> list[Run]:
    runs = []
    for name, way in WAYS.items():
        watch = Stopwatch(work)
        spans = way(watch, tasks, workers)
        runs.append(Run(name, time.perf_counter() - watch.begun, spans))
    return runs


def print_chart(title: str, runs: list[Run]) -> None:
    scale = WIDTH / max(run.seconds for run in runs)
    print(f"{title}\n{'-' * len(title)}")
    for run in runs:
        print(f"{run.name}: {run.seconds:.3f} s, {runs[0].seconds / run.seconds:.1f} x serial")
        for thread in sorted({span.thread for span in run.spans}):
            row = [" "] * (WIDTH + 1)
            for span in sorted((span for span in run.spans if span.thread == thread), key=lambda span: span.start):
                first, last = int(span.start * scale), min(int(span.end * scale), WIDTH)
                for column in range(first, max(last, first + 1)):
                    row[column] = "=" if span.task % 2 else "#"
            print(f"  {thread:<11}|{''.join(row).rstrip()}")
    print()


def draw(path: str, charts: dict[str, list[Run]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")  # a file, not a window
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(charts), len(WAYS), figsize=(12, 6), squeeze=False, layout="constrained")
    for row, (title, runs) in zip(axes, charts.items(), strict=True):
        longest = max(run.seconds for run in runs)
        for axis, run in zip(row, runs, strict=True):
            threads = sorted({span.thread for span in run.spans})
            for span in run.spans:
                axis.barh(threads.index(span.thread), span.end - span.start, left=span.start, edgecolor="white")
            axis.set(
                title=f"{title.split(',')[0]}, {run.name}: {run.seconds:.2f} s", xlabel="seconds", xlim=(0, longest)
            )
            axis.set_yticks(range(len(threads)), threads)
    figure.savefig(path, dpi=100)
    print(f"drawn to {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare serial work, threads and a thread pool.")
    parser.add_argument("--tasks", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds an I/O task waits (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=150_000, help="length of a CPU task (default: %(default)s)")
    parser.add_argument("--plot", metavar="FILE", help="draw the charts to a file, with matplotlib")
    options = parser.parse_args()
    if min(options.tasks, options.workers, options.rounds) < 1 or options.delay < 0:
        parser.error("numbers must be positive")

    server = EchoServer(options.delay)
    charts = {
        f"I/O-bound, {options.tasks} tasks, {options.workers} workers": server.ask,
        f"CPU-bound, {options.tasks} tasks, {options.workers} workers": lambda: compute(options.rounds),
    }
    measured = {title: measure(work, options.tasks, options.workers) for title, work in charts.items()}
    for title, runs in measured.items():
        print_chart(title, runs)
    print("Threads shorten waiting. They do not shorten computing while one interpreter lock is shared by all.")

    if options.plot and importlib.util.find_spec("matplotlib") is None:
        print("no picture: matplotlib is not installed", file=sys.stderr)
    elif options.plot:
        draw(options.plot, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
