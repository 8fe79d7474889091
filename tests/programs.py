"""Runs a snippet in a fresh interpreter with phalanx installed and a deadline: it may hang, the tests may not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

DEADLINE = 20.0

HEAD = """\
import phalanx
phalanx.install({arguments})
import atexit, gc, os, queue, signal, sys, threading, time
"""

# In the child of a fork: whoever does not end within this many seconds hangs.
REAP = """\
def reap(pid, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang"
"""


class Outcome(NamedTuple):
    """How a program ended. `code` is None for one that had to be killed."""

    code: int | None
    out: str
    err: str


def run(snippet: str, *arguments: str, deadlock: str | None = None, deadline: float = DEADLINE) -> Outcome:
    """Run `snippet` after `phalanx.install(deadlock=...)`; `arguments` are its sys.argv[1:]."""
    mode = "" if deadlock is None else f"deadlock={deadlock!r}"
    code = HEAD.format(arguments=mode) + REAP + textwrap.dedent(snippet)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PHALANX_")}
    # A group of its own, so that children of a fork that hang are ended as well.
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=deadline)
            return Outcome(process.returncode, out, err)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            return Outcome(None, out, err)


def output_of(text: str, folder: Path) -> str:
    """What a program prints that is a file of its own, has a `__main__` and ends well without a word on stderr."""
    script = folder / "script.py"
    script.write_text(text)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def until(done: Callable[[], object], what: str) -> None:
    """Look every millisecond whether it is `done()`, for half a minute at the most."""
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.001)
