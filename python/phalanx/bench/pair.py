"""The two sides next to each other: start them, find a sample size, take samples in turn.

Only one side is ever at work; the other sleeps on its pipe. Samples alternate (A B A B), so that a slow spell of the
machine meets both, and a ratio is always that of two neighbours in time.
"""

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from .case import Case
from .processes import RIVALS

DEADLINE = 10.0
# How much longer the samples of a program with processes are than others: what is fast should still take milliseconds.
PROCESSES_LONGER = 3
# The worker ends itself at the deadline and says where it stood. The parent steps in only if even that does not happen.
GRACE = 5.0


class Failed(Exception):
    """A side could not answer; the text says which one and why."""


class Worker:
    """One side: a worker process that is started when needed, and again after it was lost.

    Without a `folder` phalanx cannot be imported there from a checkout; with one it is installed, if `patched`.
    """

    def __init__(self, side: str, folder: Path | None, deadline: float = DEADLINE, *, patched: bool = True) -> None:
        self.side = side
        self.deadline = deadline
        script = str(Path(__file__).with_name("worker.py"))
        self._command = [sys.executable, "-I", script, str(deadline)]
        if folder is not None:
            self._command.append(str(folder))
            if not patched:
                self._command.append("--import")
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, verb: str, *arguments: Any) -> Any:
        """Have the worker do one thing and return its answer."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        begin = time.monotonic()
        line = b""
        try:
            process.stdin.write(json.dumps([verb, arguments]).encode() + b"\n")
            process.stdin.flush()
            # An answer is one short line written at once: when its first byte is there, so is the rest.
            if select.select([process.stdout], [], [], self.deadline + GRACE)[0]:
                line = process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line.endswith(b"\n"):
            late = time.monotonic() - begin >= self.deadline
            self.kill()
            raise Failed(f"{self.side} hung for {self.deadline:g} s" if late else f"{self.side} {_end_of(process)}")
        answer = json.loads(line)
        if "error" in answer:
            # Threads of the broken case may still be about; the next one deserves a clean process.
            self.kill()
            raise Failed(f"{self.side} raised {answer['error']}")
        return answer["value"]

    def _start(self) -> subprocess.Popen[bytes]:
        # A group of its own keeps Ctrl-C for the parent, which then ends the workers in order.
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        return self._process

    def kill(self) -> None:
        """End the process at once."""
        self._end(0)

    def stop(self) -> None:
        """Let the process end by itself, by the end of its input; not for long."""
        self._end(2.0)

    def _end(self, patience: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        # Left unreaped until its children are ended as well: so long the number of the group is theirs.
        late = time.monotonic() + patience
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() >= late:
                break
            time.sleep(0.002)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@dataclass(slots=True)
class Result:
    """What came of one case. The samples are nanoseconds or bytes; those with the same index belong together.

    `std` holds those of the other side, also where that is not the standard library.
    """

    case: Case
    rounds: int = 0
    std: list[int] = field(default_factory=list)
    phalanx: list[int] = field(default_factory=list)
    failure: str | None = None
    skipped: str | None = None

    @property
    def ratios(self) -> list[float]:
        """Standard library over phalanx, pair by pair."""
        return [std / phalanx for std, phalanx in zip(self.std, self.phalanx, strict=True)]

    @property
    def best(self) -> float:
        """The ratio of the fastest samples: all that is left of the truth where most samples were disturbed."""
        return min(self.std) / min(self.phalanx)

    @property
    def extra_ms(self) -> list[float]:
        """How much longer the phalanx side took, pair by pair, in milliseconds."""
        return [(phalanx - std) / 1e6 for std, phalanx in zip(self.std, self.phalanx, strict=True)]

    @property
    def score(self) -> float:
        """What the target speaks about: the median ratio, the median cost at start, or the median growth."""
        match self.case.kind:
            case "start":
                return statistics.median(self.extra_ms)
            case "memory":
                return self.per_op(self.phalanx)
            case "ratio":
                return statistics.median(self.ratios)

    @property
    def closeness(self) -> float | None:
        """Score over target, turned so that 1 or more means reached; None without a target or a score."""
        target = self.case.target
        if target is None or self.failure is not None or self.skipped is not None:
            return None
        if self.case.kind != "ratio":
            return target / self.score if self.score > 0 else float("inf")
        return self.score / target

    def per_op(self, samples: list[int]) -> float:
        """The median cost of one operation in microseconds, or in thousands of bytes."""
        return statistics.median(samples) / (self.rounds * self.case.ops) / 1000


class Pair:
    """Both sides, used as a context manager so that no worker outlives the comparison.

    With `null` phalanx stays out of it: both are the standard library (or the other package), and what the ratios show
    is the noise of the machine.
    """

    def __init__(self, *, rounds: int, sample_ms: float, deadline: float = DEADLINE, null: bool = False) -> None:
        self.folder = Path(__file__).parents[2]
        self.rounds = rounds
        self.sample_ns = int(sample_ms * 1e6)
        self.deadline = deadline
        self.null = null
        self.std = Worker("std", None, deadline)
        self.phalanx = Worker("phalanx", None if null else self.folder, deadline)
        self._programs = tempfile.TemporaryDirectory(prefix="phalanx-bench-")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for worker in (self.std, self.phalanx):
            # After Ctrl-C a worker is in the middle of a sample and would not look at its input for a while.
            worker.stop() if error is None else worker.kill()
        self._programs.cleanup()

    def states(self) -> dict[str, dict[str, Any]]:
        """What each side says it is."""
        return {worker.side: worker.ask("state") for worker in (self.std, self.phalanx)}

    def measure(self, case: Case) -> Result:
        """Compare the two sides on one case. A side that fails makes a failed result, never an exception."""
        result = Result(case)
        try:
            missing = self.std.ask("lacks", case.needs) if case.needs else None
            if missing:
                result.skipped = f"{' and '.join(missing)} not installed"
            elif case.is_start:
                self._measure_start(result)
            elif case.kind == "memory":
                self._measure_memory(result)
            elif case.other is not None:
                self._measure_program(result)
            else:
                self._measure_loop(result)
        except Failed as failure:
            result.failure = str(failure)
        return result

    def _measure_loop(self, result: Result) -> None:
        workers = (self.std, self.phalanx)
        for worker in workers:
            worker.ask("load", result.case.source)
        self._measure_loaded(result, workers, self.sample_ns)
        for worker in workers:
            worker.ask("drop")

    def _measure_program(self, result: Result) -> None:
        # The start of a process depends on how much its parent has loaded, so each case begins with fresh ones.
        with self._programs_of(result.case) as workers:
            self._measure_loaded(result, workers, PROCESSES_LONGER * self.sample_ns)

    def _measure_loaded(self, result: Result, workers: tuple[Worker, Worker], sample_ns: int) -> None:
        result.rounds = self._calibrate(workers, result.case.first, sample_ns)
        for _ in range(self.rounds):
            std, phalanx = (worker.ask("run", result.rounds) for worker in workers)
            result.std.append(std)
            result.phalanx.append(phalanx)

    def _measure_memory(self, result: Result) -> None:
        result.rounds = 1
        # Hardly anything varies between two fresh processes.
        for _ in range(min(self.rounds, 3)):
            with self._programs_of(result.case) as workers:
                std, phalanx = (worker.ask("run", 1) for worker in workers)
            result.std.append(std)
            result.phalanx.append(phalanx)

    @contextmanager
    def _programs_of(self, case: Case) -> Iterator[tuple[Worker, Worker]]:
        """Two fresh workers with the two programs of a case."""
        assert case.other is not None
        std = Worker("std" if case.group not in RIVALS else case.group, None, self.deadline)
        phalanx = Worker("phalanx", None if self.null else self.folder, self.deadline, patched=False)
        texts = (case.other, case.other if self.null else case.source)
        try:
            for worker, text in zip((std, phalanx), texts, strict=True):
                path = Path(self._programs.name, f"{worker.side}.py")
                path.write_text(text, encoding="utf-8")
                worker.ask("program", str(path))
            if std.ask("state")["phalanx_imported"]:
                raise Failed(f"{std.side} has imported phalanx")
            yield std, phalanx
            for worker in (std, phalanx):
                worker.ask("drop")
                # In order: what `multiprocessing` puts on the disk it removes as the process ends.
                worker.stop()
        finally:
            std.kill()
            phalanx.kill()

    @staticmethod
    def _calibrate(workers: tuple[Worker, Worker], rounds: int, sample_ns: int) -> int:
        """The number of rounds at which a sample of the slower side takes the time wanted."""
        while True:
            # The best of three: a thread may first lie idle for some turns of the interpreter, 5 ms each, and a sample
            # that is only long for that would end the search far too early.
            slower: int = max(min(worker.ask("run", rounds) for _ in range(3)) for worker in workers)
            wanted = max(1, round(rounds * sample_ns / max(slower, 1)))
            if slower * 2 >= sample_ns:
                return wanted
            # Small first samples mislead by far (caches, sleeping cores): approach in steps.
            rounds = max(rounds + 1, min(wanted, rounds * 10))

    def _measure_start(self, result: Result) -> None:
        result.rounds = 1
        # Both get the folder, which may not be on the path of an isolated interpreter.
        prelude = f"import sys; p = {str(self.folder)!r}; p in sys.path or sys.path.append(p)"
        bare, full = f"{prelude}; pass", f"{prelude}; {result.case.source}"
        runs: list[Callable[[], int]] = [
            lambda: _start_to_end("std", bare, self.std.deadline),
            lambda: _start_to_end("phalanx", full, self.phalanx.deadline),
        ]
        # The first start reads files from the disk and writes the bytecode cache: not what a user pays every time.
        for run in runs:
            run()
        for _ in range(self.rounds):
            std, phalanx = (run() for run in runs)
            result.std.append(std)
            result.phalanx.append(phalanx)


def _start_to_end(side: str, code: str, deadline: float) -> int:
    """Run `code` in a fresh interpreter and return the nanoseconds from its start to its end."""
    begin = time.perf_counter_ns()
    process = subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    # The pipe closes with the process, to the microsecond; waiting for it with a timeout would poll in milliseconds.
    with process, process.stdout as pipe:
        ended = bool(select.select([pipe], [], [], deadline)[0]) and os.read(pipe.fileno(), 1) == b""
        took = time.perf_counter_ns() - begin
        if not ended:
            process.kill()
            raise Failed(f"{side} hung for {deadline:g} s or printed something")
    if process.returncode:
        raise Failed(f"{side} {_end_of(process)}")
    return took


def _end_of(process: subprocess.Popen[bytes]) -> str:
    """How a process ended that should not have."""
    status = process.returncode
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
