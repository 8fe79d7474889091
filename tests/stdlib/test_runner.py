"""The runner notices what it is there for: each class below has one thing wrong with it."""

from __future__ import annotations

import fnmatch
import signal

import pytest

from . import known, runner, selection

pytestmark = pytest.mark.skipif(not runner.has_tests(), reason="this interpreter comes without the `test` package")

TESTS = """\
import os, signal, threading, time, unittest

class Good(unittest.TestCase):
    def test_one(self):
        pass

class Fails(unittest.TestCase):
    def test_one(self):
        self.assertEqual(1, 2)

    def test_sub(self):
        for number in range(2):
            with self.subTest(number=number):
                self.assertEqual(number, 0)

class Hangs(unittest.TestCase):
    def test_a(self):
        pass

    def test_b(self):
        time.sleep(100)

    def test_c(self):
        pass

class Dies(unittest.TestCase):
    def test_one(self):
        os._exit(0)

class LeavesThread(unittest.TestCase):
    def test_one(self):
        threading.Thread(target=time.sleep, args=(100,)).start()

class NoSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("no set-up")

    def test_one(self):
        pass

class Skips(unittest.TestCase):
    @unittest.skipIf("phalanx" in __import__("sys").modules, "not with phalanx")
    def test_one(self):
        pass

class Interrupted(unittest.TestCase):
    def test_one(self):
        with self.assertRaises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

class Plain(unittest.TestCase):
    locktype = staticmethod(__import__("sys").modules["_frozen_importlib"]._thread.allocate_lock)

    def test_one(self):
        pass
"""


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> runner.Overlay:
    made = runner.Overlay(tmp_path_factory.mktemp("runner") / "overlay")
    (made.packages / "fake_tests.py").write_text(TESTS)
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> runner.Overlay:
    """Without phalanx."""
    made = runner.Overlay(tmp_path_factory.mktemp("runner") / "plain")
    (made.packages / "fake_tests.py").write_text(TESTS)
    (made.packages / "phalanx_at_start.pth").unlink()
    return made


def complaints(overlay: runner.Overlay, name: str, *tests: str, lines: tuple[known.Known, ...] = ()) -> list[str]:
    """What the runner has to say about a class of the module above."""
    cls = runner.TestClass("fake_tests", name, [f"fake_tests.{name}.{test}" for test in tests or ("test_one",)])
    return runner.Runner(overlay, lines, deadline=3).run(cls).complaints(lines)


def line(test: str) -> known.Known:
    return known.Known("*", test, "because")


def test_nothing_wrong(overlay: runner.Overlay) -> None:
    assert complaints(overlay, "Good") == []


def test_failures(overlay: runner.Overlay) -> None:
    one, sub = complaints(overlay, "Fails", "test_one", "test_sub")
    assert one.startswith("fake_tests.Fails.test_one fails\n") and "1 != 2" in one
    assert sub.startswith("fake_tests.Fails.test_sub fails\n") and "(number=1)" in sub


def test_known_failure(overlay: runner.Overlay) -> None:
    assert complaints(overlay, "Fails", lines=(line("fake_tests.Fails.test_one"),)) == []


def test_known_failure_that_passes(overlay: runner.Overlay) -> None:
    (text,) = complaints(overlay, "Good", lines=(line("fake_tests.Good.test_one"),))
    assert text == "fake_tests.Good.test_one passes now: take it out of known.tsv"


def test_hang(overlay: runner.Overlay) -> None:
    whole, *tests = complaints(overlay, "Hangs", "test_a", "test_b", "test_c")
    assert whole.startswith("the process ended too early (1), in fake_tests.Hangs.test_b\n")
    assert 'fake_tests.py", line' in whole  # where it hangs
    assert [text.splitlines()[0] for text in tests] == [f"fake_tests.Hangs.test_{x} fails" for x in "bc"]


def test_death(overlay: runner.Overlay) -> None:
    whole, _ = complaints(overlay, "Dies")
    assert whole.startswith("the process ended too early (0), in fake_tests.Dies.test_one")


def test_end_that_does_not_come(overlay: runner.Overlay) -> None:
    (whole,) = complaints(overlay, "LeavesThread")
    assert whole.startswith("the process did not end well after the last test (1)")


def test_set_up_that_fails(overlay: runner.Overlay) -> None:
    whole, *_ = complaints(overlay, "NoSetUp")
    assert whole.startswith("setUpClass (fake_tests.NoSetUp) fails\n") and "OSError: no set-up" in whole


def test_test_that_is_not_there(overlay: runner.Overlay) -> None:
    assert complaints(overlay, "Good", "test_other") == ["fake_tests.Good.test_other fails\ndid not run"]


def test_class_of_which_nothing_ran() -> None:
    result = runner.ClassResult({"a": runner.Outcome("skipped", "no sound")})
    assert result.complaints([]) == ["no test of this class ran: no sound"]


def test_class_that_belongs_to_another_start_method() -> None:
    skipped = runner.Outcome("skipped", "only run in test_multiprocessing_spawn.")
    assert runner.ClassResult({"a": skipped}).complaints([]) == []
    assert runner.ClassResult({"a": skipped, "b": runner.Outcome("skipped", "no sound")}).complaints([]) != []
    assert runner.ClassResult({}).complaints([]) == ["no test of this class ran: "]


def test_skip_on_phalanx_only(overlay: runner.Overlay, plain: runner.Overlay) -> None:
    running = runner.Runner(overlay, [], deadline=3)
    running.plain = plain.python
    result = running.run(runner.TestClass("fake_tests", "Skips", ["fake_tests.Skips.test_one"]))
    text = "skips itself on phalanx only: not with phalanx"
    assert result.complaints([]) == [f"fake_tests.Skips.test_one fails\n{text}"]


def test_objects_that_are_not_ours(overlay: runner.Overlay) -> None:
    whole, _ = complaints(overlay, "Plain")
    assert whole.startswith("AssertionError: Plain.locktype makes a <class '_thread.lock'>\n")


def test_python_without_phalanx(plain: runner.Overlay) -> None:
    whole, _ = complaints(plain, "Good")
    assert whole.startswith("ModuleNotFoundError: No module named 'phalanx'")


def test_versions() -> None:
    for version, applies in (("*", True), ("3.12", True), ("3.11", False), ("3.11+", True), ("3.13+", False)):
        assert known.applies(version, (3, 12)) == applies


def test_stale_lines() -> None:
    lines = [line("pack.one.Class.*"), line("pack.one.Gone.*"), line("pack.one.Class.test_gone"), line("pack.two.*")]
    assert known.stale(lines, ["pack.one.Class.test_a"]) == ["pack.one.Gone.*", "pack.one.Class.test_gone"]


def test_what_runs_without_all() -> None:
    usual = {
        "multiprocessing_fork.WithManagerTestPool": True,
        "multiprocessing_spawn.WithProcessesTestQueue": True,
        "multiprocessing_spawn.WithThreadsTestQueue": False,
        "multiprocessing_forkserver.TestWait": False,
        "test.test_concurrent_futures.test_wait.ProcessPoolForkWaitTest": True,
        "test.test_concurrent_futures.test_wait.ProcessPoolForkserverWaitTest": False,
        "test.test_queue.CQueueTest": True,
    }
    assert {name: runner.TestClass(*name.rsplit(".", 1), []).usual for name in usual} == usual


def test_every_pattern_of_the_usual_run_names_a_class() -> None:
    classes, _ = runner.collect([])
    for module, patterns in selection.USUAL.items():
        names = [cls.name for cls in classes if cls.module == module]
        assert [pattern for pattern in patterns if names and not fnmatch.filter(names, pattern)] == []


def test_sigint_is_not_ignored(overlay: runner.Overlay) -> None:
    """As it is in what a shell runs in the background."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert complaints(overlay, "Interrupted") == []
    finally:
        signal.signal(signal.SIGINT, previous)
