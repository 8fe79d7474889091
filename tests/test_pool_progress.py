"""`options(progress=True)`: a bar on a terminal, lines in a log, tqdm's own where it is installed."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
import types
from typing import Any

import pytest

from phalanx.concurrent.futures import ProcessPoolExecutor
from phalanx.multiprocessing import get_context

PROGRAM = """
import sys
if sys.argv[1] == "plain":
    sys.modules["tqdm"] = sys.modules["tqdm.auto"] = None
from phalanx.multiprocessing import Pool
def work(x):
    return x
if __name__ == "__main__":
    with Pool(2) as pool:
        assert pool.options(progress=True).map(work, range(100), chunksize=5) == list(range(100))
"""


@pytest.fixture
def script(tmp_path: Any) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def on_terminal(script: str, kind: str) -> str:
    """What the program shows on a terminal."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (25, 80))
    with subprocess.Popen([sys.executable, script, kind], stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 4096):
                shown += part
        except OSError:  # the other end is closed
            pass
        assert process.wait(50) == 0, shown
    os.close(master)
    return shown.decode()


def test_a_terminal_has_one_line_that_is_written_over(script: str) -> None:
    shown = on_terminal(script, "plain")
    *before, last = shown.rstrip("\r\n").split("\r")
    assert re.fullmatch(r"work: 100/100 \(100%\) [\d.]+/s", last)
    assert all(re.fullmatch(r"work: \d+/100 \(\d+%\) [\d.]+/s", line) for line in before)
    assert shown.count("\n") == 1


def test_a_log_has_a_few_whole_lines(script: str) -> None:
    done = subprocess.run([sys.executable, script, "plain"], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert "\r" not in done.stderr
    assert 2 <= len(lines) <= 12
    assert lines[-1].startswith("work: 100/100 (100%)")


def test_tqdm_draws_the_bar_of_a_terminal(script: str) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    shown = on_terminal(script, "tqdm")
    assert re.search(r"work: 100%\|.*\| 100/100 \[", shown)


class Bar:
    """Stands for the bar that `tqdm.auto` chooses in a notebook."""

    made: list[Bar]

    def __init__(self, total: int | None = None, desc: str = "") -> None:
        self.total, self.desc, self.n, self.closed = total, desc, 0, False
        Bar.made.append(self)

    def update(self, n: int) -> None:
        self.n += n

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    Bar.made = []
    auto = types.ModuleType("tqdm.auto")
    auto.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", auto)
    return Bar.made


def test_a_notebook_has_its_own_bar(bars: list[Bar]) -> None:
    with get_context("fork").Pool(2) as pool:
        assert pool.options(progress=True).map(abs, range(50)) == list(range(50))
    assert [(bar.total, bar.desc, bar.n, bar.closed) for bar in bars] == [(50, "abs", 50, True)]


def test_an_executor_and_imap_have_one_too(bars: list[Bar]) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as executor:
        assert list(executor.options(progress=True).map(abs, range(30))) == list(range(30))
    with get_context("fork").Pool(2) as pool:
        assert list(pool.options(progress=True).imap(abs, range(20))) == list(range(20))
    assert [(bar.total, bar.n) for bar in bars] == [(30, 30), (None, 20)]


def test_a_function_is_told(bars: list[Bar]) -> None:
    told: list[tuple[int, int | None]] = []
    with get_context("fork").Pool(2) as pool:
        pool.options(on_progress=lambda done, total: told.append((done, total))).map(abs, range(40), chunksize=10)
    assert [done for done, _ in told] == [10, 20, 30, 40]
    assert {total for _, total in told} == {40}
    assert bars == []
