"""Runs one scenario of processes that die: a script in a fresh interpreter, a deadline, and a count of what it leaves.

The script has the names of `stage.py` and defines `main()`. Its processes form a session of their own and carry a mark
in their environment, so that all of them can be found and ended, orphans and stopped ones too.

    check('''
    def main():
        q = ctx.Queue()
        q.put(1)
        assert q.get() == 1
    ''')

With PHALANX_FAULTS_LIBRARY=std the same scripts run on the standard library: a row that passes there shows nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 20.0
GRACE = 2.0  # so many seconds after the end of the root all its processes have ended
KEPT = ("PHALANX_FAULTS_IMPORT", "PHALANX_FAULTS_STACKS")
MARK = "PHALANX_FAULTS_SCENARIO"
MOST = float(os.environ.get("PHALANX_FAULTS_DEADLINE", "inf"))  # cuts every deadline, to see many rows hang
LIBRARY = os.environ.get("PHALANX_FAULTS_LIBRARY", "phalanx")
SHM = Path("/dev/shm")

HEAD = """\
import errno, gc, os, pickle, random, resource, signal, socket, struct, subprocess, sys, threading, time
from tests.faults.stage import *
"""
FOOT = '\nif __name__ == "__main__":\n    play(main)\n'


@dataclass(frozen=True)
class Outcome:
    """How a scenario ended. `code` is None for one that had to be killed; `left` says what it left behind."""

    code: int | None
    out: str
    err: str
    left: tuple[str, ...]
    asleep: tuple[str, ...] = ()  # for one that was killed: where its processes were

    def tell(self) -> str:
        """All of it, for the report of a test that fails."""
        ending = "hung, and was killed" if self.code is None else f"ended with {self.code}"
        parts = [f"the scenario {ending}"]
        parts += [f"left: {line}" for line in self.left] + [f"hangs: {line}" for line in self.asleep]
        parts += [f"--- {name}\n{text}" for name, text in (("stdout", self.out), ("stderr", self.err)) if text]
        return "\n".join(parts)


def members(session: int, mark: str) -> dict[int, str]:
    """The living processes of a scenario: of its session or with its mark. Zombies are their parent's affair."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_text(errors="replace")
            name, _, rest = stat.partition("(")[2].rpartition(")")
            fields = rest.split()
            if fields[0] in "ZX":
                continue
            environment = b"" if int(fields[3]) == session else Path("/proc", entry, "environ").read_bytes()
        except OSError:
            continue  # it has just ended, or is not ours
        if int(fields[3]) == session or wanted in environment.split(b"\0"):
            found[int(entry)] = f"{name} ({fields[0]}), child of {fields[1]}"
    return found


def end(session: int, mark: str) -> None:
    """Kill whatever is left of a scenario."""
    until = time.monotonic() + 10.0
    while (alive := members(session, mark)) and time.monotonic() < until:
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.005)


def where(session: int, mark: str) -> tuple[str, ...]:
    """What each thread of each process is doing, as the kernel sees it."""
    lines = []
    for pid, what in members(session, mark).items():
        for task in sorted(Path("/proc", str(pid), "task").glob("*")):
            try:
                call = (task / "syscall").read_text().split()[0]
                lines.append(f"{pid}/{task.name} {what}: {(task / 'wchan').read_text()}, system call {call}")
            except (OSError, IndexError):
                lines.append(f"{pid}/{task.name} {what}")
    return tuple(lines)


def _shared() -> set[str]:
    return set(os.listdir(SHM)) if SHM.is_dir() else set()


def _in_use(names: set[str]) -> set[str]:
    """Those names of /dev/shm that some process of the machine still maps: somebody else's."""
    used: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text(errors="replace")
        except OSError:
            continue
        used.update(name for name in names if f"{SHM}/{name}\n" in text)
    return used


def _await_end(session: int, mark: str, grace: float) -> list[str]:
    until = time.monotonic() + grace
    while (alive := members(session, mark)) and time.monotonic() < until:
        time.sleep(0.01)
    return [f"process {pid} {what}" for pid, what in alive.items()]


def run(
    scenario: str,
    *arguments: str,
    deadline: float = DEADLINE,
    method: str = "fork",
    environment: dict[str, str] | None = None,
    grace: float = GRACE,
) -> Outcome:
    """Play `scenario`; its processes start others by `method`, and `arguments` are its sys.argv[1:]."""
    mark = uuid.uuid4().hex
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PHALANX_") or name in KEPT}
    variables |= {MARK: mark, "PHALANX_FAULTS_LIBRARY": LIBRARY, "PHALANX_FAULTS_METHOD": method}
    variables["PYTHONPATH"] = str(Path(__file__).parents[2])
    variables |= environment or {}
    before = _shared()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        script = Path(folder, "scenario.py")
        script.write_text(HEAD + textwrap.dedent(scenario) + FOOT)
        Path(folder, "board").write_bytes(bytes(4096))
        # Files, not pipes: an orphan would keep a pipe open, and nobody would read it.
        with open(Path(folder, "out"), "w+") as out, open(Path(folder, "err"), "w+") as err:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore::DeprecationWarning", str(script), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=variables,
                start_new_session=True,
            )
            asleep: tuple[str, ...] = ()
            left: list[str] = []
            try:
                code: int | None = process.wait(min(deadline, MOST))
                left += _await_end(process.pid, mark, grace)
            except subprocess.TimeoutExpired:
                code, asleep = None, where(process.pid, mark)
            finally:
                end(process.pid, mark)
                process.wait()
            ledger = Path(folder, "left.json")
            if ledger.exists():
                left += json.loads(ledger.read_text())
            mine = Path(folder, "shm").read_text().split() if Path(folder, "shm").exists() else []
            # Other programs make names at any time: ours are those that our processes noted, or that say so.
            new = {name for name in _shared() - before if name in mine or name.startswith(("phalanx", "faults"))}
            left += [f"/dev/shm/{name}" for name in sorted((new & _shared()) - _in_use(new))]
            out.seek(0), err.seek(0)
            return Outcome(code, out.read(), err.read(), tuple(left), asleep)


def check(
    scenario: str,
    *arguments: str,
    deadline: float = DEADLINE,
    method: str = "fork",
    environment: dict[str, str] | None = None,
    grace: float = GRACE,
    code: int = 0,
    quiet: bool = True,
) -> str:
    """Play `scenario`, which has to end with `code` in time, leave nothing and (if `quiet`) say nothing on stderr."""
    outcome = run(scenario, *arguments, deadline=deadline, method=method, environment=environment, grace=grace)
    assert outcome.code == code and not outcome.left and not (quiet and outcome.err), outcome.tell()
    return outcome.out
