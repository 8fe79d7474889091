"""A short storm of each kind; `python tests/faults/storm.py --help` tells of longer ones."""

from __future__ import annotations

import pytest
from tests.faults.harness import check

KINDS = (
    "Queue", "Queue(n)", "SimpleQueue", "JoinableQueue", "Pipe",
    "Lock", "Lock(recover)", "RLock(recover)", "Semaphore", "Condition", "Barrier",
)  # fmt: skip

SCENARIO = """
from tests.faults import storm

def main():
    assert set(storm.STORMS) == set(sys.argv[1].split(","))
    code = storm.main(["--rounds", sys.argv[2], "--items", sys.argv[3], "--seed", "7", "--kinds", sys.argv[4]])
    assert code == 0
"""


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_lost_nothing_doubled_nobody_blocked(kind: str) -> None:
    out = check(SCENARIO, ",".join(KINDS), "20", "4000", kind, deadline=50)
    last = next(line.split() for line in out.splitlines() if line.startswith("all"))
    assert last[0] == "all" and last[1] == "20" and int(last[2]) > 0 and int(last[3]) > 0, out
