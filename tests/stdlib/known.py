"""The list of tests that do not pass, `known.tsv`: one line each, with the reason.

version   3.11       this version only
          3.12+      this one and later ones
          *          every version
test      an id      runs, and must fail or be skipped: when it passes, its line has to go
          a pattern  (with a `*`) does not run at all
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

PATH = Path(__file__).with_name("known.tsv")


class Known(NamedTuple):
    """One line of the list."""

    version: str
    test: str
    reason: str

    @property
    def is_pattern(self) -> bool:
        """Whether what it names is left out."""
        return "*" in self.test

    def matches(self, test_id: str) -> bool:
        """Whether it speaks of this test."""
        return fnmatchcase(test_id, self.test)


def applies(version: str, running: tuple[int, int]) -> bool:
    """Whether a line for `version` counts where `running` is the interpreter's version."""
    if version == "*":
        return True
    major, _, minor = version.removesuffix("+").partition(".")
    named = (int(major), int(minor))
    return running >= named if version.endswith("+") else running == named


def load(path: Path = PATH, running: tuple[int, int] = sys.version_info[:2]) -> list[Known]:
    """The lines that apply to this interpreter. Raises ValueError for a line that is not right."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if number == 1 or not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 3 or not all(field.strip() for field in fields):
            raise ValueError(f"{path.name}:{number}: wants a version, a test and a reason, separated by tabs")
        if applies(fields[0], running):
            found.append(Known(*fields))
    return found


def reason_for(test_id: str, lines: Iterable[Known], *, pattern: bool) -> str | None:
    """Why a test is left out (`pattern`) or may fail (not `pattern`), if the list says so."""
    return next((line.reason for line in lines if line.is_pattern == pattern and line.matches(test_id)), None)


def stale(lines: Iterable[Known], ids: Iterable[str]) -> list[str]:
    """The lines that speak of no test, though the interpreter ships the module they name."""
    ids = list(ids)
    modules = {test_id.rsplit(".", 2)[0] + "." for test_id in ids}
    gone = []
    for line in lines:
        start = line.test.partition("*")[0]
        shipped = any(module.startswith(start) or start.startswith(module) for module in modules)
        if shipped and not any(line.matches(test_id) for test_id in ids):
            gone.append(line.test)
    return gone
