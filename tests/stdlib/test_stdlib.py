"""CPython's own tests on phalanx, one item for each of their classes. See `runner.py` for how and where they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from . import known, runner

if not runner.has_tests():
    pytest.skip("this interpreter comes without the `test` package, where CPython's tests are", allow_module_level=True)

# The first item also waits for those classes that run beside its own.
pytestmark = pytest.mark.timeout(300)

LINES = known.load()
CLASSES, ABSENT = runner.collect(LINES)
BY_ID = {cls.id: cls for cls in CLASSES}


def items(everything: bool) -> Iterator[Any]:
    """The classes, all or the usual ones, and for what does not run the reason."""
    for cls in CLASSES:
        if not (everything or cls.usual):
            continue
        reasons = {known.reason_for(test, LINES, pattern=True) for test in cls.left_out}
        marks = [] if cls.tests else [pytest.mark.skip(reason="; ".join(sorted(filter(None, reasons))))]
        yield pytest.param(cls.id, id=cls.id.removeprefix("test."), marks=marks)
    for module, reason in ABSENT.items():
        yield pytest.param(module, id=module.removeprefix("test."), marks=pytest.mark.skip(reason=reason))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "class_id" in metafunc.fixturenames:
        metafunc.parametrize("class_id", list(items(metafunc.config.getoption("stdlib_all", False))))


@pytest.fixture(scope="session")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[runner.ClassResult]]]:
    """The classes that are wanted, all under way."""
    wanted = [item.callspec.params.get("class_id") for item in request.session.items if hasattr(item, "callspec")]
    classes = [BY_ID[class_id] for class_id in wanted if class_id in BY_ID and BY_ID[class_id].tests]
    running = runner.Runner(runner.Overlay(tmp_path_factory.mktemp("stdlib") / "overlay"), LINES)
    with ThreadPoolExecutor(runner.JOBS) as pool:
        yield {cls.id: pool.submit(running.run, cls) for cls in classes}
        running.stop()
        pool.shutdown(cancel_futures=True)


def test_class(class_id: str, results: Mapping[str, Future[runner.ClassResult]], record_property: Any) -> None:
    result = results[class_id].result()
    listed = sum(known.reason_for(test, LINES, pattern=False) is not None for test in result.outcomes)
    record_property(
        "cpython",
        {
            "passing": result.count("passed"),
            "failing": result.count("failed") - listed,
            "known not to pass": listed,
            "skipped here and on the plain library": result.count("skipped"),
            "second try": [test for test, outcome in result.outcomes.items() if outcome.flaky],
        },
    )
    if complaints := result.complaints(LINES):
        pytest.fail("\n\n".join(complaints), pytrace=False)


def test_list_speaks_of_tests_that_exist() -> None:
    assert known.stale(LINES, [test for cls in CLASSES for test in cls.tests + cls.left_out]) == []


def test_there_is_something_to_run() -> None:
    modules = {cls.module for cls in CLASSES if cls.tests}
    assert modules >= {name for name in runner.MODULES if "concurrent" not in name}


@pytest.mark.parametrize("line", ["3.11\tonly two", "3.11\t\treason", "x\ty\tz\ttoo many"])
def test_a_line_without_its_three_fields_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "known.tsv").write_text(f"version\ttest\treason\n{line}\n")
    with pytest.raises(ValueError, match=r"known\.tsv:2: wants a version, a test and a reason"):
        known.load(tmp_path / "known.tsv")
