"""Faults that are not yet met as they should be: `known.tsv` is the one list of them, with the reasons."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KNOWN = [line.split("\t") for line in (HERE / "known.tsv").read_text(encoding="ascii").splitlines() if line]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the listed ones to fail; some of them hang, or depend on how busy the machine is."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        name = f"{item.path.name}::{item.name}"
        for pattern, reason in KNOWN:
            if fnmatch(name, pattern):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=False))
