"""The examples run under `phalanx run` and, as they are ordinary programs, under plain python."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
DEADLINE = 40.0
PHALANX = ("-m", "phalanx", "run")
both_ways = pytest.mark.parametrize("how", [PHALANX, ()], ids=["phalanx", "python"])


def run(how: tuple[str, ...], name: str, *args: str, stuck: float | None = None) -> subprocess.CompletedProcess[str]:
    """Runs an example in its own session. With `stuck`, it must still be there after so many seconds."""
    command = [sys.executable, *how, str(EXAMPLES / name / f"{name}.py"), *args]
    env = {key: value for key, value in os.environ.items() if key != "PHALANX_DEADLOCK"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=stuck or DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        if not stuck:
            pytest.fail(f"{name}: still running after {DEADLINE:.0f} s\n--- stdout\n{out}\n--- stderr\n{err}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_every_example_is_tested():
    names = {path.parent.name for path in EXAMPLES.glob("*/*.py")}
    source = Path(__file__).read_text(encoding="utf-8")
    assert names
    assert {name for name in names if f'"{name}"' not in source} == set()


@both_ways
def test_linkcheck(how):
    done = run(how, "linkcheck")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "21 addresses in " in done.stdout
    assert "not followed: 1\n" in done.stdout
    assert re.findall(r"^  404 (\S+)  first found on", done.stdout, re.MULTILINE) == [
        "/chapter-1.htm",
        "/chapter-99.html",
        "/figures/plan.png",
    ]


@both_ways
def test_linkcheck_nobody_answers(how):
    done = run(how, "linkcheck", "http://127.0.0.1:9/", "--workers", "2")
    assert done.returncode == 1, done.stderr
    assert "1 dead link:\n  ConnectionRefusedError /  first found on the command line" in done.stdout


@both_ways
def test_particles(how):
    done = run(how, "particles", "--steps", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "all 4 checksums equal those of the serial run" in done.stdout


@both_ways
def test_bank(how):
    done = run(how, "bank", "--transfers", "2000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8000 transfers in" in done.stdout
    assert "the sum is still the same" in done.stdout


def test_bank_naive_is_found_out():
    done = run(PHALANX, "bank", "--naive")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DeadlockError" in done.stderr
    assert '"Ada to Bela"' in done.stderr
    assert '"Bela to Ada"' in done.stderr
    lines = (EXAMPLES / "bank" / "bank.py").read_text(encoding="utf-8").splitlines()
    for code in ("with payer.lock:", "with payee.lock:"):
        (number,) = (n for n, line in enumerate(lines, 1) if line.strip() == code)
        assert f"bank.py:{number}" in done.stderr
    assert "1 of 2 transfers done" in done.stdout
    assert re.search(r"sum +2000$", done.stdout, re.MULTILINE)


def test_bank_naive_hangs_in_plain_python():
    done = run((), "bank", "--naive", stuck=2.0)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert "transfers done" not in done.stdout


@both_ways
def test_timing(how, tmp_path):
    picture = tmp_path / "timing.png"
    args = ("--tasks", "4", "--workers", "2", "--delay", "0.02", "--rounds", "20000", "--plot", str(picture))
    done = run(how, "timing", *args)
    assert done.returncode == 0, done.stdout + done.stderr
    for title in ("I/O-bound, 4 tasks, 2 workers", "CPU-bound, 4 tasks, 2 workers"):
        assert title in done.stdout
    for row in ("MainThread", r"thread-\d", r"pool_\d"):
        assert len(re.findall(rf"^  {row} *\|[ #=]*[#=]", done.stdout, re.MULTILINE)) >= 2, done.stdout
    if importlib.util.find_spec("matplotlib"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    else:
        assert "matplotlib is not installed" in done.stderr
