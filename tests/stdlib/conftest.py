"""The option `--all`; and what is said at the end: how many of CPython's own tests ran, and which were not sure."""

from __future__ import annotations

import sys
from typing import Any


def pytest_addoption(parser: Any) -> None:
    """Known only where `tests/stdlib` is named on the command line."""
    parser.addoption("--all", action="store_true", dest="stdlib_all", help="CPython's tests: also what takes long")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Add up what each item has recorded about its class."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    records = [value for report in reports for name, value in report.user_properties if name == "cpython"]
    if not records:
        return
    terminalreporter.section("CPython's own tests on phalanx")
    counts = {name: sum(record[name] for record in records) for name in records[0] if name != "second try"}
    version = ".".join(map(str, sys.version_info[:3]))
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    terminalreporter.write_line(f"Python {version}: {len(records)} classes, {said}")
    for test in sorted(test for record in records for test in record["second try"]):
        terminalreporter.write_line(f"only at the second try: {test}")
