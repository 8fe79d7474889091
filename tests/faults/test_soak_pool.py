"""Short soaks of a pool: see `soak_pool.py`, which `./dev soak` runs with a million tasks."""

from __future__ import annotations

import pytest
from tests.faults import soak_pool


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["bundles", "tasks", "submits"])
def test_workers_are_killed_and_all_is_right(kind: str) -> None:
    killed = 0
    while killed < 3:
        counted = soak_pool.soak(50_000, kind=kind)
        assert not soak_pool.bad(counted), counted
        killed += counted["killed"]
