"""CPython's own tests, as the running interpreter ships them, against phalanx: one process for each test class.

    python -m tests.stdlib.runner [--all] [--match PATTERN] [--json FILE] [--jobs N]

The processes run in a throw-away virtual environment whose one `.pth` file installs phalanx at start-up. So do the
children that the tests start, even with `python -I`. A class that takes too long is ended, and what it had not finished
counts as failed. A test that fails runs once more alone; one that skips itself runs on the plain standard library too,
to see whether it would skip itself there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import known, selection

MODULES = (
    "test.test_threading",
    "test.test_thread",
    "test.test_threadsignals",
    "test.test_threading_local",
    "test.test_queue",
    "test.test_sched",
    *(
        f"test.test_concurrent_futures.test_{part}"
        for part in ("thread_pool", "process_pool", "future", "as_completed", "wait", "shutdown", "init", "deadlock")
    ),
    "test.test_multiprocessing_main_handling",
    "multiprocessing_fork",
    "multiprocessing_spawn",
    "multiprocessing_forkserver",
)
DEADLINE = 60.0  # seconds for one class
JOBS = 2
CHILD = Path(__file__).with_name("child.py")


@dataclass
class TestClass:
    """One class of tests, by the ids of those that are to run."""

    module: str
    name: str
    tests: list[str]
    left_out: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def usual(self) -> bool:
        """Whether it runs without `--all`."""
        return selection.is_usual(self.module, self.name)


@dataclass
class Outcome:
    """How one test ended: "passed", "failed" or "skipped" (which it is on the plain standard library as well)."""

    result: str
    text: str = ""
    flaky: bool = False  # failed at first, but not when it ran alone


@dataclass
class ClassResult:
    """How one class ended. `broken` tells why its process did not come to an orderly end, or is empty."""

    outcomes: dict[str, Outcome]
    broken: str = ""
    output: str = ""
    seconds: float = 0.0

    def count(self, result: str) -> int:
        """How many tests ended so."""
        return sum(outcome.result == result for outcome in self.outcomes.values())

    def complaints(self, lines: Sequence[known.Known]) -> list[str]:
        """What is wrong with it, given what is known not to pass."""
        wrong = [f"{self.broken}\n{self.output}"] if self.broken else []
        skipped = {outcome.text for outcome in self.outcomes.values() if outcome.result == "skipped"}
        nothing_ran = not any(outcome.result in ("passed", "failed") for outcome in self.outcomes.values())
        if nothing_ran and not (skipped and all(map(selection.is_unfit, skipped))):
            wrong.append(f"no test of this class ran: {'; '.join(sorted(skipped))}")
        for test, outcome in self.outcomes.items():
            reason = known.reason_for(test, lines, pattern=False)
            if outcome.result == "failed" and reason is None:
                wrong.append(f"{test} fails\n{outcome.text}")
            elif outcome.result == "passed" and reason is not None:
                wrong.append(f"{test} passes now: take it out of {known.PATH.name}")
        return wrong


# ---------------------------------------------------------------- what there is to run


def has_tests() -> bool:
    """Whether the interpreter comes with the tests of its standard library; many distributions package them apart."""
    try:
        return find_spec("test.support") is not None
    except ModuleNotFoundError:
        return False


def collect(lines: Sequence[known.Known]) -> tuple[list[TestClass], dict[str, str]]:
    """The classes of all modules, and the reasons why other modules have none."""
    command = [sys.executable, "-P", str(CHILD), "list", *MODULES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, env=_environment())
    if done.returncode != 0:
        raise RuntimeError(f"CPython's tests cannot be listed:\n{done.stderr}")
    classes, absent = [], {}
    for module, found in json.loads(done.stdout).items():
        if isinstance(found, str):
            absent[module] = found
            continue
        for name, tests in found.items():
            left_out = [test for test in tests if known.reason_for(test, lines, pattern=True) is not None]
            classes.append(TestClass(module, name, [test for test in tests if test not in left_out], left_out))
    return classes, absent


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "PHALANX"))}


# ---------------------------------------------------------------- where it runs


class Overlay:
    """A virtual environment in which every Python process runs on phalanx from its start."""

    def __init__(self, folder: Path) -> None:
        venv.EnvBuilder(symlinks=True).create(folder)
        self.python = str(folder / "bin" / "python")
        spec = find_spec("phalanx")
        if spec is None or spec.origin is None:
            raise RuntimeError("phalanx is not installed for this interpreter")
        home = str(Path(spec.origin).parents[1])
        self.packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
        (self.packages / "phalanx_at_start.pth").write_text(
            f"import sys; sys.path.append({home!r}); import phalanx; phalanx.install(deadlock='raise')\n"
        )
        self._prove()

    def _prove(self) -> None:
        code = f"import sys; sys.path.append({str(CHILD.parent)!r}); import child; child.prove_replaced()"
        done = subprocess.run(
            [self.python, "-I", "-c", code], capture_output=True, text=True, timeout=DEADLINE, env=_environment()
        )
        if done.returncode != 0 or done.stderr:
            raise RuntimeError(f"`python -I` does not run on phalanx:\n{done.stderr}")


class Runner:
    """Runs classes in an overlay."""

    def __init__(self, overlay: Overlay, lines: Sequence[known.Known], deadline: float = DEADLINE) -> None:
        self._overlay = overlay
        self._lines = lines
        self._deadline = deadline
        self._environment = _environment()  # now: pytest changes it while the threads of the runner are busy
        self.plain = sys.executable
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, cls: TestClass) -> ClassResult:
        """Run a class; again what failed, and on the plain standard library what skipped itself."""
        started = time.monotonic()
        result = self._run(cls, cls.tests, "run")
        self._look_again(cls, result)
        result.seconds = round(time.monotonic() - started, 1)
        return result

    def stop(self) -> None:
        """End what is running, for good."""
        self._stopped = True
        for process in list(self._running):
            _kill(process)

    def _look_again(self, cls: TestClass, result: ClassResult) -> None:
        failed = [test for test, outcome in result.outcomes.items() if outcome.result == "failed"]
        unknown = [test for test in failed if known.reason_for(test, self._lines, pattern=False) is None]
        # A test may have trusted its timing on a busy machine. A hang, a crash or many failures are no such thing.
        for test in unknown if not result.broken and len(unknown) <= 3 else ():
            again = self._run(cls, [test], "run")
            if not again.broken and again.outcomes[test].result != "failed":
                result.outcomes[test] = Outcome(again.outcomes[test].result, result.outcomes[test].text, flaky=True)
        skipped = [
            test
            for test, outcome in result.outcomes.items()
            if outcome.result == "skipped" and not selection.is_unfit(outcome.text)
        ]
        plain = self._run(cls, skipped, "run-plain") if skipped else ClassResult({})
        for test in skipped:
            if plain.outcomes[test].result != "skipped":
                text = f"skips itself on phalanx only: {result.outcomes[test].text}"
                result.outcomes[test] = Outcome("failed", text)

    def _run(self, cls: TestClass, tests: Sequence[str], what: str) -> ClassResult:
        python = self._overlay.python if what == "run" else self.plain
        # The paths of sockets go in there, and they have to be short.
        with tempfile.TemporaryDirectory(prefix="phalanx-", ignore_cleanup_errors=True) as folder:
            record, log = Path(folder, "record"), Path(folder, "log")
            arguments = [what, str(record), str(self._deadline), cls.module, cls.name, *tests]
            record.touch()
            with log.open("w") as output:
                process = subprocess.Popen(
                    [python, "-P", str(CHILD), *arguments],
                    cwd=folder,
                    env=self._environment | {"TMPDIR": folder},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    text=True,
                )
            self._running.add(process)
            code: int | str
            try:
                if self._stopped:
                    _kill(process)
                code = process.wait(self._deadline + 20)
            except subprocess.TimeoutExpired:
                code = "too late"
            finally:
                _kill(process)
                self._running.discard(process)
            return _read(record, tests, code, log.read_text(errors="replace")[-6000:])


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # with what the tests started and left behind
    except ProcessLookupError:
        pass
    process.wait()


def _read(record: Path, tests: Sequence[str], code: int | str, output: str) -> ClassResult:
    """What the lines of a record say about each of the tests."""
    outcomes = {test: Outcome("failed", "did not run") for test in tests}
    broken = ""
    done = False
    failed = set()
    for line in record.read_text().splitlines():
        event, test, text = json.loads(line)
        if event == "done":
            done = True
        elif event == "broken":
            broken = text
        elif event == "start":
            outcomes[test] = Outcome("failed", "did not come to its end")
        elif event == "failed":
            failed.add(test)
            if test in outcomes:
                outcomes[test] = Outcome("failed", text)
            else:  # what surrounds the tests, for example `setUpClass (...)`
                broken = f"{test} fails\n{text}"
        elif test in outcomes and test not in failed:
            outcomes[test] = Outcome(event, text)
        elif event == "skipped" and test.startswith("setUp"):
            outcomes = {name: Outcome("skipped", text) for name in tests}
    if not broken and not done:
        stuck = [test for test, outcome in outcomes.items() if outcome.text == "did not come to its end"]
        broken = f"the process ended too early ({code}), in {' '.join(stuck) or 'no test'}"
    elif not broken and code != 0:
        broken = f"the process did not end well after the last test ({code})"
    return ClassResult(outcomes, broken, output if broken else "")


# ---------------------------------------------------------------- by hand


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what matches, print how it went, and return the exit code: 0 only if something ran and nothing is wrong."""
    parser = argparse.ArgumentParser(description="CPython's own tests against phalanx")
    parser.add_argument("--all", action="store_true", help="also what the usual run leaves out")
    parser.add_argument("--match", default="*", help="only classes whose id matches, such as `*.test_queue.*`")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many classes run at the same time")
    options = parser.parse_args(arguments)
    if not has_tests():
        print("this interpreter comes without the `test` package")
        return 1
    lines = known.load()
    classes, absent = collect(lines)
    wanted = [cls for cls in classes if options.all or cls.usual]
    chosen = [cls for cls in wanted if cls.tests and fnmatchcase(cls.id, options.match)]
    document: dict[str, Any] = {"python": sys.version, "absent": absent, "classes": {}}
    totals = dict.fromkeys(("passed", "failed", "skipped"), 0)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="phalanx-stdlib-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        runner = Runner(Overlay(Path(folder)), lines)
        for cls, result in zip(chosen, pool.map(runner.run, chosen), strict=True):
            complaints = result.complaints(lines)
            wrong += len(complaints)
            for total in totals:
                totals[total] += result.count(total)
            print(f"{cls.id}: {result.count('passed')} of {len(cls.tests)}", *complaints, sep="\n    ", flush=True)
            document["classes"][cls.id] = asdict(result) | {"complaints": complaints}
    for module, reason in absent.items():
        print(f"{module}: {reason}")
    print(f"{len(chosen)} classes,", ", ".join(f"{count} {total}" for total, count in totals.items()))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if totals["passed"] and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
