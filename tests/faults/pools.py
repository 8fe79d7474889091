"""What the rows about pools share on this side of the harness: the kinds of pool, and `check` for one of them.

@every
def test_something(pool: str) -> None:
    check('''
def main():
    with make(2) as pool: usable(pool)
''', pool)
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import pytest
from tests.faults import harness

FORKED = ("Pool-fork", "Executor-fork")
TABLE = ("Pool-fork", "Pool-spawn", "Pool-forkserver", "Executor-fork")
ALL = (*TABLE, "Executor-spawn")
# The four of the table; `spawned` are those and the executor on spawn, where the start method matters to it as well;
# `forked` is for rows about a thing that has nothing to do with how a worker began.
every = pytest.mark.parametrize("pool", TABLE)
spawned = pytest.mark.parametrize("pool", ALL)
forked = pytest.mark.parametrize("pool", FORKED)


def variants(name: str, values: Iterable[str], pools: tuple[str, ...] = TABLE) -> pytest.MarkDecorator:
    """Each value with the pools that fork, and the first one with all of `pools`."""
    values = list(values)
    pairs = [(value, pool) for pool in pools for value in (values if pool in FORKED else values[:1])]
    return pytest.mark.parametrize((name, "pool"), pairs, ids=[f"{value}-{pool}" for value, pool in pairs])


def check(
    scenario: str,
    pool: str,
    *arguments: str,
    deadline: float = harness.DEADLINE,
    code: int = 0,
    quiet: bool = True,
    grace: float = harness.GRACE,
) -> str:
    """Play `scenario`, which has the names of `pool_stage.py` too and whose `make` makes pools of the kind `pool`."""
    kind, _, method = pool.partition("-")
    return harness.check(
        "from tests.faults.pool_stage import *\n" + textwrap.dedent(scenario),
        *arguments,
        deadline=deadline,
        method=method,
        environment={"PHALANX_FAULTS_POOL": kind},
        code=code,
        quiet=quiet,
        grace=grace,
    )
