"""What `phalanx` says in its own words: help, versions, and command lines that it cannot read."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def phalanx(*arguments: str) -> tuple[str, str, int]:
    """Runs the command: its output, its errors, its exit code."""
    command = [sys.executable, "-m", "phalanx", *arguments]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, text=True)
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--dedlock", "off", "look.py"], "phalanx run: unknown option `--dedlock`"),
        (["run", "-z"], "phalanx run: unknown option `-z`"),
        (["run", "-u", "look.py"], "hint: an option of the interpreter goes before: `python -u -m phalanx run ...`"),
        (["run", "--deadlock"], "phalanx run: `--deadlock` wants a value"),
        (["run", "--deadlock", "maybe", "look.py"], "`--deadlock` is one of raise, report, off, not 'maybe'"),
        (["run", "--deadlock=", "look.py"], "`--deadlock` is one of raise, report, off, not ''"),
        (["run", "-c"], "phalanx run: `-c` wants a value"),
        (["run", "-m"], "phalanx run: `-m` wants a value"),
        (["look.py"], "phalanx: unknown command `look.py`"),
        (["--verbose"], "phalanx: unknown option `--verbose`"),
        ([], "usage: phalanx COMMAND"),
    ],
)
def test_mistyped_command_line(arguments: list[str], words: str) -> None:
    stdout, stderr, code = phalanx(*arguments)
    assert (stdout, code) == ("", 2)
    assert words in stderr
    assert "usage: phalanx" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], "  bench"),
        (["-h"], "  run"),
        (["run", "--help"], "--deadlock report"),
        (["--version"], f"({sys.implementation.name} {sys.version.split()[0]})"),
    ],
)
def test_help_and_version(arguments: list[str], words: str) -> None:
    stdout, stderr, code = phalanx(*arguments)
    assert (stderr, code) == ("", 0)
    assert words in stdout


HANGS = "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\nprint('never')"


@pytest.mark.parametrize("option", [["--deadlock", "raise"], ["--deadlock=raise"], []])
def test_deadlock_is_an_error_like_any_other(option: list[str]) -> None:
    stdout, stderr, code = phalanx("run", *option, "-c", HANGS)
    assert (stdout, code) == ("", 1)
    assert "phalanx.DeadlockError" in stderr
    assert os.path.join("phalanx", "cli") not in stderr


def test_wrong_choice_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHALANX_DEADLOCK", "maybe")
    stdout, stderr, code = phalanx("run", "-c", "print('not reached')")
    assert (stdout, code) == ("", 2)
    assert "PHALANX_DEADLOCK must be 'raise', 'report' or 'off', not 'maybe'" in stderr
    assert "Traceback" not in stderr


def test_deadlock_off_lets_it_hang() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-m", "phalanx", "run", "--deadlock", "off", "-c", HANGS], timeout=3)


def test_start_loads_no_more_than_it_needs() -> None:
    """Every program pays for what `phalanx run` imports."""
    stdout, stderr, code = phalanx("run", "-c", "import sys\nprint(*sys.modules)")
    assert (stderr, code) == ("", 0)
    heavy = {
        "argparse",
        "dataclasses",
        "inspect",
        "asyncio",
        "ctypes",
        "subprocess",
        "tempfile",
        "logging",
        "phalanx.bench",
    }
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True)
    assert not heavy & set(stdout.split()) - set(bare.stdout.split())
