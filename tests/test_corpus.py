"""The corpus: small whole programs with a verdict in their header.

Every program runs under `phalanx run`; every bad one runs under plain `python` as well, to prove that its defect is
real. The form of the header is described in `corpus/README.md`.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

CORPUS = Path(__file__).resolve().parent / "corpus"
DEADLINE = 20.0  # seconds for one program under phalanx, or for one that ends under python
STUCK_AFTER = 3.0  # a hanging program must still be there after this
QUIET_FOR = 1.0  # and its threads must not have moved for this long

# verdict under phalanx -> what plain python may do instead: a hang or an error may become even a right answer
PLAIN_OF = {
    "ok": ("ok", "hang", "wrong-answer", "error"),
    "deadlock": ("hang",),
    "wrong-answer": ("wrong-answer",),
    "error": ("error", "hang", "wrong-answer"),
}
METHODS = ("fork", "spawn", "forkserver")
KEYS = ("shows", "verdict", "plain", "methods", "report", "reports", "expect", "exit")
REPORT_LINE = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?DeadlockError\b", re.MULTILINE)


@dataclass(frozen=True)
class Program:
    """One file of the corpus, as its header describes it, with one of its start methods."""

    path: Path
    verdict: str
    plain: str
    expect: tuple[str, ...]  # regular expressions
    report: tuple[str, ...]  # regular expressions for the words of the report, marks replaced by file:line
    reports: tuple[int, int]  # how often a DeadlockError may end a traceback
    exit: int | None
    marks: dict[str, int]  # mark -> line number
    method: str | None  # how it starts processes: its only argument

    @property
    def name(self) -> str:
        return self.path.stem + (f"-{self.method}" if self.method else "")

    @property
    def command(self) -> tuple[str, ...]:
        return (str(self.path), self.method) if self.method else (str(self.path),)


def parse(path: Path) -> list[Program]:
    """Reads the header of a program: one for each start method. A ValueError says what is wrong with it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found: dict[str, list[str]] = {key: [] for key in KEYS}
    for line in lines:
        if not line.startswith("#"):
            break
        match = re.fullmatch(r"# (\w+): (\S.*)", line)
        if not match or match[1] not in KEYS:
            raise ValueError(f"{path.name}: not a header line: {line!r}")
        found[match[1]].append(match[2])

    for key, values in found.items():
        if key in ("shows", "verdict", "plain") and not values:
            raise ValueError(f"{path.name}: `{key}` is missing")
        if key != "expect" and len(values) > 1:
            raise ValueError(f"{path.name}: `{key}` is there {len(values)} times")
    verdict, plain = found["verdict"][0], found["plain"][0]
    if plain not in PLAIN_OF.get(verdict, ()):
        raise ValueError(f"{path.name}: verdict {verdict!r} does not go with plain {plain!r}")

    methods = found["methods"][0].split() if found["methods"] else [None]
    if found["methods"] and (not methods or set(methods) - set(METHODS)):
        raise ValueError(f"{path.name}: bad `methods`: {found['methods'][0]!r}")

    marks: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if match := re.search(r"  # @(\w+)$", line):
            if match[1] in marks:
                raise ValueError(f"{path.name}: mark @{match[1]} is there twice")
            marks[match[1]] = number

    report_text = "".join(found["report"])
    words = re.findall(r'"[^"]+"|@\w+', report_text)
    if " ".join(words) != report_text:
        raise ValueError(f"{path.name}: `report` must be quoted names and @marks: {report_text!r}")
    used = {word[1:] for word in words if word.startswith("@")}
    if used != set(marks):
        raise ValueError(f"{path.name}: marks in `report` and in the code differ: {sorted(used ^ set(marks))}")
    report = tuple(
        rf"\b{re.escape(f'{path.name}:{marks[word[1:]]}')}\b" if word.startswith("@") else word for word in words
    )

    reports = (1, 1) if verdict == "deadlock" else (0, 0)
    if found["reports"]:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", found["reports"][0])
        if not match or verdict != "deadlock":
            raise ValueError(f"{path.name}: bad `reports`: {found['reports'][0]!r}")
        reports = (int(match[1]), int(match[2] or match[1]))
    if verdict == "deadlock" and reports[1] and not report:
        raise ValueError(f"{path.name}: a deadlock needs `report`")
    if verdict != "deadlock" and (report or not found["expect"]):
        raise ValueError(f"{path.name}: `report` is for deadlocks only, everything else needs `expect`")

    exit_code = None if verdict == "deadlock" else 0
    if found["exit"]:
        exit_code = int(found["exit"][0])
    for pattern in (*found["expect"], *report):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{path.name}: bad pattern {pattern!r}: {error}") from None
    expect = tuple(found["expect"])
    return [Program(path, verdict, plain, expect, report, reports, exit_code, marks, method) for method in methods]


def load() -> tuple[list[Program], list[str]]:
    programs, complaints = [], []
    for path in sorted(CORPUS.glob("*.py")):
        try:
            programs.extend(parse(path))
        except ValueError as error:
            complaints.append(str(error))
    return programs, complaints


PROGRAMS, COMPLAINTS = load()
# The defect of a program does not depend on how it starts processes: its first method proves it.
BAD = list({program.path: program for program in reversed(PROGRAMS) if program.plain != "ok"}.values())[::-1]


def environment() -> dict[str, str]:
    """The surroundings of a program: ours, without settings that would change a verdict."""
    drop = ("PHALANX_DEADLOCK", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONUNBUFFERED")
    return {name: value for name, value in os.environ.items() if name not in drop}


def kill_group(process: subprocess.Popen, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def run(*command: str) -> tuple[int, str, str]:
    """Runs a command to its end, in its own session; fails if it is still there after the deadline."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        kill_group(process)
        stdout, stderr = process.communicate()
        pytest.fail(f"still running after {DEADLINE:.0f} s\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    finally:
        kill_group(process)  # children that outlived it
    return process.returncode, stdout, stderr


def check(program: Program, code: int, stdout: str, stderr: str, *, with_report: bool) -> None:
    """Compares what a program did with its header."""
    output = f"{stdout}\n{stderr}"
    shown = f"exit {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
    for pattern in program.expect:
        assert re.search(pattern, output, re.MULTILINE), f"expected {pattern!r}\n{shown}"
    if with_report:
        low, high = program.reports
        count = len(REPORT_LINE.findall(stderr))
        assert low <= count <= high, f"{count} deadlock reports, expected {low} to {high}\n{shown}"
        for pattern in program.report:
            assert re.search(pattern, stderr), f"the report lacks {pattern!r}\n{shown}"
    else:
        assert "DeadlockError" not in output, shown
    assert (program.verdict == "wrong-answer") == bool(re.search(r"^WRONG", stdout, re.MULTILINE)), shown
    if program.verdict in ("ok", "wrong-answer"):
        assert "Traceback" not in stderr, shown
    elif program.verdict == "error":
        assert "Traceback" in stderr, shown
    if program.exit is not None:
        assert code == program.exit, f"exit code {program.exit} expected\n{shown}"


def test_corpus_is_there_and_well_formed():
    assert not COMPLAINTS, "\n".join(COMPLAINTS)
    count = {verdict: sum(program.verdict == verdict for program in PROGRAMS) for verdict in PLAIN_OF}
    print(f"{len(PROGRAMS)} programs: {count}")
    assert all(count.values()), f"a verdict without any program: {count}"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_under_phalanx(program: Program):
    outcome = run(sys.executable, "-m", "phalanx", "run", *program.command)
    check(program, *outcome, with_report=program.verdict == "deadlock")


# --- the bad programs under plain python -----------------------------------------------------------------------------


def members(session: int) -> list[Path]:
    """The processes of a session, as folders of /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(stat.parent)
    return found


def still_picture(session: int) -> dict[str, tuple[str, int]]:
    """State and number of context switches of each thread of a session."""
    picture = {}
    for process in members(session):
        with contextlib.suppress(OSError):
            for status in process.glob("task/*/status"):
                fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
                switches = int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"])
                picture[status.parent.name] = fields["State"], switches
    return picture


def has_moved(before: dict[str, tuple[str, int]], after: dict[str, tuple[str, int]]) -> bool:
    """Whether a thread did anything between two pictures. The server of a manager looks up once a second."""
    if before.keys() != after.keys():
        return True
    return any(
        before[thread][0] != state or switches - before[thread][1] > 3 for thread, (state, switches) in after.items()
    )


@dataclass
class Hang:
    """What was seen of a program that should hang."""

    returncode: int | None
    picture: dict[str, tuple[str, int]]
    moved: bool
    stderr: str
    stacks: str


def abort(process: subprocess.Popen, errors: Path) -> str:
    """Ends a program so that faulthandler prints where each thread was: first itself, then its children in turn."""
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    for member in members(process.pid):
        with contextlib.suppress(OSError):
            os.kill(int(member.name), signal.SIGABRT)
            give_up = time.monotonic() + 5
            while time.monotonic() < give_up and "\nState:\tZ" not in (member / "status").read_text():
                time.sleep(0.01)
    return errors.read_text()


@pytest.fixture(scope="session")
def hangs(request: pytest.FixtureRequest):
    """Starts all chosen hanging programs at once, as they need no processor, and looks at them when all is quiet."""
    chosen = {
        item.callspec.params["program"].path
        for item in request.session.items
        if getattr(item, "originalname", "") == test_bad_under_python.__name__ and hasattr(item, "callspec")
    }
    programs = [program for program in BAD if program.plain == "hang" and program.path in chosen]
    running: dict[str, tuple[subprocess.Popen, Path]] = {}
    seen: dict[str, Hang] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for program in programs:
                errors = Path(folder, program.name)
                with errors.open("w") as file:
                    process = subprocess.Popen(
                        [sys.executable, "-X", "faulthandler", *program.command],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=file,
                        env=environment(),
                        start_new_session=True,
                    )
                resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))  # it will end by SIGABRT
                running[program.name] = process, errors

            begun = time.monotonic()
            before = {name: still_picture(process.pid) for name, (process, _) in running.items()}
            moved = set(running)
            while (passed := time.monotonic() - begun) < STUCK_AFTER or (moved and passed < DEADLINE):
                time.sleep(QUIET_FOR)
                after = {name: still_picture(process.pid) for name, (process, _) in running.items()}
                moved = {name for name in running if has_moved(before[name], after[name])}
                before = after

            for name, (process, errors) in running.items():
                code, printed = process.poll(), errors.read_text()
                stacks = abort(process, errors)[len(printed) :]
                seen[name] = Hang(code, before[name], name in moved, printed, stacks)
        finally:
            for process, _ in running.values():
                kill_group(process)
                process.wait()
    return seen


@pytest.mark.parametrize("program", BAD, ids=lambda program: program.name)
def test_bad_under_python(program: Program, request: pytest.FixtureRequest):
    if program.plain == program.verdict:
        check(program, *run(sys.executable, *program.command), with_report=False)
        return
    if program.plain == "wrong-answer":
        code, stdout, stderr = run(sys.executable, *program.command)
        assert re.search(r"^WRONG", stdout, re.MULTILINE), f"exit {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        return

    if program.plain == "error":
        code, stdout, stderr = run(sys.executable, *program.command)
        shown = f"exit {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        assert code != 0 and "Traceback" in stderr, shown
        return

    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc to see that no thread moves")
    hang: Hang = request.getfixturevalue("hangs")[program.name]
    assert hang.returncode is None, f"ended with {hang.returncode} instead of hanging\n{hang.stderr}"
    assert not hang.moved, f"a thread still moves: {hang.picture}"
    # A child that was killed and not joined yet is a zombie.
    assert hang.picture and all(state[0] in "SZ" for state, _ in hang.picture.values()), hang.picture
    # A slip in the program could make it hang as well: it may print only errors that its header announces, and it
    # must be stuck on a line that its header names.
    if "Traceback" in hang.stderr:
        assert any(re.search(pattern, hang.stderr, re.MULTILINE) for pattern in program.expect), hang.stderr
    lines = {int(n) for n in re.findall(rf'{re.escape(program.path.name)}", line (\d+)', hang.stacks)}
    assert not program.marks or lines & set(program.marks.values()), f"stuck on lines {lines}\n{hang.stacks}"
