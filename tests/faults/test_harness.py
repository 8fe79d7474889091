"""The harness itself: it sees what hangs and what is left. These scenarios need no library that works."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.harness import check, run


def test_a_scenario_that_hangs_is_killed_with_all_its_processes() -> None:
    outcome = run(
        """
        for _ in range(2):
            if os.fork() == 0: forever()
        if os.fork() == 0:
            os.setsid()
            os.kill(os.getpid(), signal.SIGSTOP)
        forever()
        """,
        deadline=2,
    )
    assert outcome.code is None and len(outcome.asleep) == 4, outcome.tell()
    assert "hung, and was killed" in outcome.tell()


def test_an_orphan_is_seen() -> None:
    outcome = run("if os.fork() == 0: forever()\nos._exit(0)", grace=0.2)
    assert outcome.code == 0 and len(outcome.left) == 1 and "child of" in outcome.left[0], outcome.tell()


def test_an_orphan_that_has_left_the_session_is_seen() -> None:
    outcome = run(
        """
        if os.fork() == 0:
            os.setsid(); mark("a"); forever()
        await_mark("a"); os._exit(0)
        """,
        grace=0.2,
    )
    assert outcome.code == 0 and len(outcome.left) == 1, outcome.tell()


LEFT = {
    "descriptor": "def main(): global kept; kept = open('board')",
    "memfd": "def main(): os.memfd_create('forgotten')",
    "thread": "def main(): threading.Thread(target=forever, daemon=True).start()",
    "zombie": "def main():\n    if os.fork() == 0: os._exit(0)",
    "child": "def main():\n    if os.fork() == 0: forever()",
    "shm": "def main(): open(f'/dev/shm/faults-{os.getpid()}', 'w').close()",
    "std": "from multiprocessing import shared_memory as s, resource_tracker\n"
    "def main():\n    one = s.SharedMemory(create=True, size=9); one.close()\n"
    "    resource_tracker.unregister(one._name, 'shared_memory')",
}
WORDS = {"zombie": "(Z)", "shm": "/dev/shm/faults-", "std": "/dev/shm/psm_", "memfd": "/memfd:forgotten"}


@pytest.mark.parametrize("what", LEFT)
def test_what_is_left_is_seen(what: str) -> None:
    outcome = run(LEFT[what] + ("\nimport atexit; atexit.register(os._exit, 0)" if what == "thread" else ""), grace=0.2)
    for line in outcome.left:
        if line.startswith("/dev/shm"):
            Path(line).unlink()
    assert outcome.code == 0 and any(WORDS.get(what, what) in line for line in outcome.left), outcome.tell()


def test_a_scenario_that_fails_is_told_with_its_words() -> None:
    with pytest.raises(AssertionError, match="the words of the error"):
        check("def main(): raise ValueError('the words of the error')")


def test_a_clean_scenario_passes() -> None:
    assert check("def main(): print('done')") == "done\n"
