"""`phalanx bench`: the comparison runs, each side is what it claims to be, and a stuck side does not stop it.

Nothing here looks at how long anything takes.
"""

import json
import os
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import phalanx
from phalanx.bench import cases, main, report
from phalanx.bench.case import Case
from phalanx.bench.pair import Failed, Pair, Result, Worker
from phalanx.bench.processes import RIVALS

ENTRY = "import sys; from phalanx.bench import main; sys.exit(main(sys.argv[1:]))"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, with an end in sight."""
    command = [sys.executable, "-c", ENTRY, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_table_and_samples(tmp_path: Path) -> None:
    file = tmp_path / "samples.json"
    done = bench("--quick", "--filter", "event set", "--json", str(file))
    assert done.returncode == 0, done.stderr
    numbers = r"([\d.]+) +([\d.]+) +([\d.]+) +[\d.]+\.\.[\d.]+ +[\d.]+"
    row = re.search(rf"^ +Event set/is_set/clear +{numbers} +>= 8 ", done.stdout, re.MULTILINE)
    assert row is not None, done.stdout
    assert all(float(number) > 0 for number in row.groups())
    document = json.loads(file.read_text())
    assert document["workers"]["std"] == {
        "phalanx_imported": False,
        "phalanx_installed": False,
        "phalanx_version": None,
    }
    assert document["workers"]["phalanx"]["phalanx_installed"] is True
    (result,) = document["results"]
    assert len(result["std_ns"]) == len(result["phalanx_ns"]) == document["settings"]["rounds"]


def test_start_up_is_compared() -> None:
    done = bench("--rounds", "1", "--filter", "import phalanx*")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +import phalanx .* ms .*<= 25 ms", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^ +import phalanx and install\(\) .* ms ", done.stdout, re.MULTILINE), done.stdout


def test_list_names_every_case_and_measures_nothing() -> None:
    done = bench("--list")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(cases.CASES)
    assert "us" not in done.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--filter", "no such case"], "no case matches 'no such case'"),
        (["--rounds", "0"], "'0' is not a whole number above 0"),
        (["--rounds", "many"], "'many' is not a whole number above 0"),
        (["--json", "/nowhere/at/all.json"], "cannot write /nowhere/at/all.json"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_usage_errors(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert complaint in capsys.readouterr().err


def test_names_are_unique_and_filters_find_them() -> None:
    names = [case.name for case in cases.CASES]
    assert len(set(names)) == len(names)
    assert [case.name for case in cases.select("with rlock")] == ["with RLock"]
    assert [case.name for case in cases.select("* put+get")] == [name for name in names if name.endswith(" put+get")]
    assert cases.select("memory") == [case for case in cases.CASES if case.kind == "memory"]
    assert cases.select(None) == cases.CASES


def take_up(worker: Worker, case: Case, text: str | None, folder: Path) -> None:
    """Load a case: its source, or the text of one side as a program."""
    missing = worker.ask("lacks", case.needs)
    if missing:
        pytest.skip(f"{missing} not installed")
    if text is None:
        worker.ask("load", case.source)
        return
    file = folder / "program.py"
    file.write_text(text)
    worker.ask("program", str(file))


@pytest.mark.parametrize("case", [case for case in cases.CASES if not case.is_start], ids=lambda case: case.name)
def test_every_case_runs_on_the_plain_side(case: Case, tmp_path: Path) -> None:
    worker = Worker("std", None, 30.0)
    try:
        take_up(worker, case, case.other, tmp_path)
        assert worker.ask("run", 2) > 0
        worker.ask("drop")
        assert worker.ask("state")["phalanx_imported"] is False
        worker.stop()
    finally:
        worker.kill()


@pytest.mark.parametrize("case", [case for case in cases.CASES if case.other], ids=lambda case: case.name)
def test_every_program_runs_on_our_side(case: Case, tmp_path: Path) -> None:
    worker = Worker("phalanx", Path(phalanx.__file__).parents[1], 30.0, patched=False)
    try:
        take_up(worker, case, case.source, tmp_path)
        assert worker.ask("run", 2) > 0
        worker.ask("drop")
        state = worker.ask("state")
        assert state["phalanx_imported"] and not state["phalanx_installed"]
        worker.stop()
    finally:
        worker.kill()


@pytest.mark.parametrize("case", [case for case in cases.CASES if case.other], ids=lambda case: case.name)
def test_the_programs_of_the_two_sides_differ_in_whose_modules_they_use(case: Case) -> None:
    assert case.other is not None
    assert "from phalanx import multiprocessing" in case.source
    assert "phalanx import" not in case.other
    if case.group not in RIVALS:
        theirs = case.source.replace("from phalanx import multiprocessing", "import multiprocessing")
        assert theirs.replace("from phalanx.concurrent", "from concurrent") == case.other
    for text in (case.source, case.other):
        compile(text, case.name, "exec")


def test_null_compares_the_standard_library_with_itself() -> None:
    # There and back: a round of two processes whose start is not in the sample.
    done = bench("--quick", "--rounds", "1", "--null", "--only", "pipe there and back")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +Pipe there and back +[\d.]+ +[\d.]+ +[\d.]+ .* - *$", done.stdout, re.MULTILINE), done.stdout
    assert "0 of 0 targets" in done.stdout


def test_memory_is_shown_in_bytes() -> None:
    done = bench("--quick", "--rounds", "1", "--null", "--only", "idle process queue")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +idle process Queue +[\d.]+ +[\d.]+ +[\d.]+ kB ", done.stdout, re.MULTILINE), done.stdout


HANGS = "import time\ndef run(rounds):\n    time.sleep(600)\n"
ONE_SIDED = "import os, sys\ndef run(rounds):\n    if 'phalanx' in sys.modules:\n        {}\n"
FINE = "def run(rounds):\n    sum(range(rounds))\n"


@pytest.mark.parametrize(
    ("source", "failure"),
    [
        (HANGS, "std hung for 3 s"),
        (ONE_SIDED.format("raise ValueError('no luck')"), "phalanx raised ValueError: no luck"),
        (ONE_SIDED.format("os._exit(7)"), "phalanx ended with status 7"),
        (ONE_SIDED.format("os.abort()"), "phalanx was ended by SIGABRT"),
        ("import no_such_module", "std raised ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_failed_case_is_reported_and_the_next_one_measured(source: str, failure: str) -> None:
    with Pair(rounds=2, sample_ms=1, deadline=3.0) as pair:
        assert pair.measure(Case("test", "bad", 2, 1, source)).failure == failure
        after = pair.measure(Case("test", "good", 2, 1, FINE))
    assert after.failure is None
    assert len(after.ratios) == 2 and after.score > 0


def program(source: str, **fields: Any) -> Case:
    """A case about processes; phalanx takes no part in these tests."""
    return Case("test", "program", 2, 1, source, other=source, **fields)


def test_a_case_may_say_what_it_measured() -> None:
    with Pair(rounds=2, sample_ms=0.001, null=True) as pair:
        result = pair.measure(program("def run(rounds):\n    return 7000\n"))
    assert result.failure is None
    assert (result.std, result.phalanx, result.ratios) == ([7000, 7000], [7000, 7000], [1, 1])


def test_children_of_a_case_do_not_outlive_it() -> None:
    # The child sleeps in the group of its worker, and would go on doing so.
    text = "import multiprocessing, time\np = multiprocessing.Process(target=time.sleep, args=(600,))\n"
    run = "def run(rounds):\n    p.start()\n    return p.pid\n"
    with Pair(rounds=1, sample_ms=1, null=True) as pair:
        result = pair.measure(program(text + run, kind="memory"))
    assert result.failure is None
    for pid in result.std + result.phalanx:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        # Readable from its end on, whoever reaps it.
        assert select.select([handle], [], [], 30)[0]
        os.close(handle)


def test_a_worker_that_dies_is_noticed_though_its_child_lives() -> None:
    text = (
        "import multiprocessing, os, time\n"
        "def run(rounds):\n"
        "    multiprocessing.Process(target=time.sleep, args=(600,)).start()\n"
        "    os._exit(7)\n"
    )
    with Pair(rounds=1, sample_ms=1, null=True) as pair:
        assert pair.measure(program(text)).failure == "std ended with status 7"


def test_a_spawned_child_finds_the_program() -> None:
    text = (
        "import multiprocessing\n"
        "def task():\n    raise SystemExit(5)\n"
        "def run(rounds):\n"
        "    p = multiprocessing.get_context('spawn').Process(target=task)\n"
        "    p.start()\n"
        "    p.join()\n"
        "    assert p.exitcode == 5\n"
    )
    with Pair(rounds=1, sample_ms=1, null=True) as pair:
        assert pair.measure(program(text)).failure is None


def test_a_case_that_lacks_a_module_is_skipped() -> None:
    with Pair(rounds=1, sample_ms=1, null=True) as pair:
        result = pair.measure(program("import no_such_module", needs=("no_such_module", "json")))
    assert (result.failure, result.skipped, result.closeness) == (None, "no_such_module not installed", None)
    assert "skipped: no_such_module not installed" in report.row(result)
    assert "skipped 1 " in report.summary([result])


def test_output_of_a_case_stays_out_of_the_protocol() -> None:
    worker = Worker("std", None, 30.0)
    try:
        worker.ask("load", "import os\ndef run(rounds):\n    print('noise', flush=True)\n    os.write(1, b'noise')\n")
        assert worker.ask("run", 1) > 0
    finally:
        worker.kill()


def test_a_side_that_cannot_start_is_named(tmp_path: Path) -> None:
    (tmp_path / "phalanx.py").write_text("def install(): raise SystemExit(3)\n")
    worker = Worker("ours", tmp_path, 30.0)
    worker._command[1:2] = ["-I", "-S"]  # without site-packages the stand-in is the only phalanx
    with pytest.raises(Failed, match="ours ended with status 3"):
        worker.ask("state")


def test_closeness_is_turned_the_same_way_for_ratios_and_for_the_start() -> None:
    ratio = Result(Case("g", "n", 2, 1, FINE), 1, std=[300, 400], phalanx=[100, 100])
    assert ratio.score == 3.5 and ratio.best == 3 and ratio.closeness == 1.75
    start = Result(Case("g", "n", 25, 1, "import phalanx", kind="start"), 1, std=[10_000_000], phalanx=[60_000_000])
    assert start.score == 50 and start.closeness == 0.5
    memory = Result(Case("g", "n", 100, 1, FINE, kind="memory"), 1, std=[10_000], phalanx=[200_000])
    assert memory.score == 200 and memory.closeness == 0.5
    assert Result(Case("g", "n", None, 1, FINE), 1, std=[1], phalanx=[1]).closeness is None
