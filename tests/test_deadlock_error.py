"""`DeadlockError` itself: the facts it carries, how it is printed, and reports of whole programs."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from phalanx import deadlock, errors

DOCS = Path(__file__).parent.parent / "docs" / "deadlocks.md"


def example() -> errors.DeadlockError:
    gate = threading.Lock()
    code = compile("\n\ngate.acquire()", "/srv/bank.py", "exec")
    offset = next(start for start, _, line in code.co_lines() if line == 3)
    me = threading.get_ident()
    facts = {"ident": me, "native_id": 1, "kind": "Lock", "owner": me, "owner_alive": True, "taken": (code, offset)}
    reports = map(deadlock.build_error, [{"cause": "cycle", "victim": me, "threads": [facts | {"object": gate}]}])
    return next(reports)


def test_the_facts_are_there_for_programs_too() -> None:
    error = example()
    (thread,) = error.threads
    assert (error.cause, thread.name, thread.ident, thread.native_id) == (
        "cycle",
        "MainThread",
        threading.get_ident(),
        1,
    )
    assert (thread.kind, thread.waits_for) == ("Lock", "gate")
    assert thread.waits_at is not None
    assert thread.waits_at.startswith(f"{__file__}:")
    assert thread.holds == (errors.HeldObject("gate", "Lock", "/srv/bank.py:3"),)
    assert str(error).endswith(f"hint: {error.hint}")
    assert isinstance(error, RuntimeError)
    assert type(error).__module__ == "phalanx"
    assert json.loads(json.dumps(error.as_dict()))["threads"][0]["holds"][0]["name"] == "gate"


def test_it_can_be_pickled() -> None:
    error = example()
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.threads, copy.cause, copy.hint) == (str(error), error.threads, error.cause, error.hint)


def test_records_cannot_be_changed() -> None:
    record = errors.WaitingThread("t", 1, 2, "gate", None)
    with pytest.raises(AttributeError, match="WaitingThread is read-only"):
        record.name = "u"
    with pytest.raises(AttributeError, match="read-only"):
        del record.name
    assert record == errors.WaitingThread("t", 1, 2, "gate", None)
    assert record != errors.WaitingThread("t", 1, 3, "gate", None)
    assert record != "t"
    assert len({record, errors.WaitingThread("t", 1, 2, "gate", None)}) == 1
    assert repr(errors.HeldObject("a", "Lock")) == "HeldObject(name='a', kind='Lock', taken_at=None)"


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"cause": "cycle", "threads": None},
        {"cause": "asleep", "threads": [None]},
        {"cause": "asleep", "threads": [{}]},
        {"cause": "orphan", "threads": [{"kind": 7, "ident": "x", "taken": (1, 2), "object": 3, "owner": []}]},
        {"cause": None, "threads": 5},
    ],
)
def test_less_detail_rather_than_a_failure(broken: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    assert str(deadlock.build_error(broken))
    assert deadlock.describe(broken)
    assert capfd.readouterr().err


def test_a_printed_report(capfd: pytest.CaptureFixture[str]) -> None:
    me = threading.get_ident()
    text = deadlock.describe({"cause": "asleep", "victim": me, "threads": [{"ident": me, "kind": "Event"}]})
    assert capfd.readouterr().err == text
    assert text.startswith("phalanx.DeadlockError (reported, not raised): the main thread is asleep")
    assert text.endswith("in a `finally`\n")


def test_printing_trusts_plain_streams_only(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def write(self, _text: str) -> int:
            raise AssertionError("may take a lock of the program")

    monkeypatch.setattr(sys, "stderr", Stream())
    text = deadlock.describe({})
    assert capfd.readouterr().err == text
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    deadlock.describe({})
    assert stream.getvalue() == text
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------- the table of texts and the guide


def test_texts_are_ascii_and_end_without_a_stop() -> None:
    for key, text in errors.DEADLOCK_TEXTS.items():
        assert text.isascii(), key
        assert not text.endswith((".", "!")), key


def test_every_first_line_is_explained_in_the_guide() -> None:
    guide = DOCS.read_text()
    heads = [text for key, text in errors.DEADLOCK_TEXTS.items() if key.startswith("head.")]
    assert heads
    for head in heads:
        assert head.format(n="N", name="NAME") in guide


def test_every_kind_of_wait_is_in_the_guide() -> None:
    guide = DOCS.read_text()
    kinds = {key.removeprefix("wait.") for key in errors.DEADLOCK_TEXTS if key.startswith("wait.")}
    for kind in kinds - {"Executor idle", "shutdown", "other", "Queue.join.counted", "Queue.join.one"}:
        assert f"`{kind}`" in guide


# ---------------------------------------------------------------- whole programs


def run(program: str, folder: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=30, check=True
    )
    return ran.stdout


def test_the_example_of_the_guide(tmp_path: Path) -> None:
    """The program of the guide is stuck for real, and the report is the one that the guide shows."""
    guide = DOCS.read_text()
    source, shown = re.findall(r"```(?:python|text)\n(.*?)```", guide, re.DOTALL)[:2]
    (tmp_path / "bank.py").write_text(source)
    out = run(
        """
import os, sys, threading, time
from phalanx import deadlock
sys.path.insert(0, "")

def at(function, line):
    code = function.__code__
    return code, next(start for start, _, found in code.co_lines() if found == line)

def watch():
    while True:
        time.sleep(0.01)
        bank = sys.modules.get("bank")
        lines = {frame.f_code.co_name: frame.f_lineno for frame in sys._current_frames().values()}
        if lines.get("book") == 11 and lines.get("check") == 18:
            break
    def wait(thread, obj, owner, taken):
        return {"ident": thread.ident, "native_id": thread.native_id, "kind": "Lock", "object": obj,
                "owner": owner.ident, "owner_alive": True, "taken": taken}
    ledger, auditor = bank.ledger, bank.auditor
    waits = [wait(ledger, bank.audit, auditor, at(bank.check, 16)),
             wait(auditor, bank.accounts, ledger, at(bank.book, 9))]
    error = deadlock.build_error({"cause": "cycle", "victim": ledger.ident, "threads": waits})
    print(f"{type(error).__module__}.{type(error).__qualname__}: {error}", flush=True)
    os._exit(0)

threading.Thread(target=watch).start()
import bank
""",
        tmp_path,
    )
    assert out == shown


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_an_owner_left_behind_by_fork_is_named(tmp_path: Path) -> None:
    out = run(
        """
import os, threading, warnings
from phalanx import deadlock
warnings.simplefilter("ignore")
table, taken, stop = threading.RLock(), threading.Event(), threading.Event()

def hold():
    with table:
        taken.set()
        stop.wait()

owner = threading.Thread(target=hold, name="owner")
owner.start()
taken.wait()
ident = owner.ident
del owner
if os.fork() == 0:
    print(deadlock.build_error({"cause": "orphan", "victim": threading.get_ident(), "threads": [
        {"ident": threading.get_ident(), "native_id": 1, "kind": "RLock", "object": table, "owner": ident,
         "owner_alive": False, "taken": (hold.__code__, 0)}]}), flush=True)
    os._exit(0)
os.wait()
stop.set()
""",
        tmp_path,
    )
    head, row, hint = out.splitlines()
    assert head == "the owner of table did not survive fork"
    assert row.endswith('by Thread "owner")')
    assert hint.startswith("hint: hold no lock across `fork`")
