"""What happens inside the processes that `runner.py` starts: to list tests, or to run some of one class.

    child.py list MODULE...                        prints {module: {class: [test id, ...]}} as JSON, or a reason as text
    child.py run RECORD SECONDS MODULE CLASS ID... runs them on phalanx, adds a line to the file RECORD for each event
    child.py run-plain ...                         the same on the standard library as it is

A process that runs tests proves first that they will not run on the standard library's own objects.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import sys
import unittest
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SUITES = Path(__file__).with_name("suites")


def tests_of(module_name: str) -> dict[str, dict[str, unittest.TestCase]]:
    """The tests of one module by class and id, as the module itself wants them loaded."""
    module = importlib.import_module(module_name)
    by_class: dict[str, dict[str, unittest.TestCase]] = {}
    for test in _flat(unittest.defaultTestLoader.loadTestsFromModule(module)):
        tests = by_class.setdefault(type(test).__qualname__, {})
        name = test.id()
        while name in tests:  # doctests of one file that run more than once
            name += "'"
        tests[name] = test
    return by_class


def _flat(suite: unittest.TestSuite | unittest.TestCase) -> Iterator[unittest.TestCase]:
    if isinstance(suite, unittest.TestSuite):
        for part in suite:
            yield from _flat(part)
    else:
        yield suite


def list_tests(module_names: list[str]) -> dict[str, dict[str, list[str]] | str]:
    """The ids of the tests, or for a module without any the reason in words."""
    listed: dict[str, dict[str, list[str]] | str] = {}
    for name in module_names:
        try:
            listed[name] = {cls: list(tests) for cls, tests in tests_of(name).items()}
        except ModuleNotFoundError as error:
            # Only its own absence excuses a module, not that of something which it needs.
            own = (name, "test._test_multiprocessing")  # a module in `suites` is nothing without the second
            if error.name is None or not any((part + ".").startswith(error.name + ".") for part in own):
                raise
            listed[name] = "this interpreter does not ship it"
        except unittest.SkipTest as reason:
            listed[name] = str(reason)
    return listed


# ---------------------------------------------------------------- proof


def prove_replaced() -> None:
    """Raises AssertionError if the standard modules do not run on phalanx here, or if the detector does not raise."""
    import _thread
    import queue
    import threading

    import phalanx
    import phalanx.queue
    import phalanx.threading
    from phalanx import _core, _threads

    assert phalanx.installed(), "phalanx is not installed"
    assert _core.deadlock_mode() == "raise", f"the detector is in the mode {_core.deadlock_mode()!r}"
    assert _threads.adopted(), "Thread.join does not go through the door"
    for name in ("LockType", "RLock"):
        _same(_thread, name, _core.Lock if name == "LockType" else _core.RLock)
    for name in ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier"):
        _same(threading, name, getattr(phalanx.threading, name))
    # Before 3.13 what makes a lock is a function.
    allocate: Any = threading.__dict__["_allocate_lock"]
    for make in (_thread.allocate_lock, _thread.allocate, threading.Lock, allocate):
        assert type(make()) is _core.Lock, f"{make!r} makes a {type(make())!r}"
    for make in (threading.RLock, threading.__dict__["_CRLock"]):
        assert type(make()) is _core.RLock, f"{make!r} makes a {type(make())!r}"
    for name in ("Condition", "Semaphore", "Event", "Barrier"):
        assert issubclass(getattr(threading, name), getattr(_core, name)), f"threading.{name} is not made in Rust"
    _prove_queues(queue)


def _prove_queues(module: Any) -> None:
    import phalanx.queue

    for name in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"):
        _same(module, name, getattr(phalanx.queue, name))


def _prove_futures() -> None:
    import concurrent.futures
    import concurrent.futures.thread

    import phalanx.concurrent.futures

    face: Any = phalanx.concurrent.futures
    for name in ("Future", "ThreadPoolExecutor", "wait", "as_completed"):
        _same(concurrent.futures, name, getattr(face, name))
    _same(concurrent.futures.thread, "ThreadPoolExecutor", face.ThreadPoolExecutor)


def _prove_multiprocessing() -> None:
    import multiprocessing.connection
    import multiprocessing.queues
    import multiprocessing.synchronize

    import phalanx.multiprocessing.connection
    import phalanx.multiprocessing.queues
    import phalanx.multiprocessing.synchronize

    face: Any = phalanx.multiprocessing
    for name in ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier"):
        _same(multiprocessing.synchronize, name, getattr(face.synchronize, name))
    for name in ("Queue", "JoinableQueue", "SimpleQueue"):
        _same(multiprocessing.queues, name, getattr(face.queues, name))
    _same(multiprocessing.connection, "Pipe", face.connection.Pipe)
    for make, ours in ((multiprocessing.Queue, face.queues.Queue), (multiprocessing.Lock, face.synchronize.Lock)):
        assert type(make()) is ours, f"{make!r} makes a {type(make())!r}"


def _same(module: Any, name: str, ours: object) -> None:
    found = getattr(module, name)
    assert found is ours, f"{module.__name__}.{name} is {found!r}, not {ours!r}"


def prove_tested(module_name: str, tests: Iterable[unittest.TestCase]) -> None:
    """Raises AssertionError if the objects under test, as the test class names them, are not ours."""
    import threading

    import phalanx.threading
    from phalanx import _core

    kinds = {
        "locktype": (_core.Lock, _core.RLock, phalanx.threading.Condition, getattr(threading, "_PyRLock", None)),
        "condtype": (phalanx.threading.Condition,),
        "eventtype": (phalanx.threading.Event,),
        "semtype": (phalanx.threading.Semaphore, phalanx.threading.BoundedSemaphore),
        "barriertype": (phalanx.threading.Barrier,),
    }
    for cls in {type(test) for test in tests}:
        for name, ours in kinds.items():
            made = getattr(cls, name, None)
            if made is not None and cls.__module__ != "test.test_thread":  # it tests a barrier of its own
                found = type(made(1) if name == "barriertype" else made())
                assert found in ours, f"{cls.__qualname__}.{name} makes a {found!r}"
        queues = getattr(cls, "queue", None)
        if queues is not None and hasattr(queues, "LifoQueue"):
            _prove_queues(queues)
    if "concurrent_futures" in module_name:
        _prove_futures()
    if "multiprocessing" in module_name:
        _prove_multiprocessing()


# ---------------------------------------------------------------- run


class Record(unittest.TestResult):
    """Writes down each event at once, so that a process that hangs or dies still tells how far it came."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._pid = os.getpid()
        self.names: dict[int, str] = {}

    def note(self, event: str, name: str = "", text: str = "") -> None:
        """Add one line, unless this is a child that a test forked and lost."""
        if os.getpid() == self._pid:
            os.write(self._fd, (json.dumps([event, name, text]) + "\n").encode())

    def _name(self, test: unittest.TestCase) -> str:
        return self.names.get(id(test)) or test.id()

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self.note("start", self._name(test))

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.note("passed", self._name(test))

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self.note("failed", self._name(test), self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self.note("failed", self._name(test), self.failures[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note("failed", self._name(test), f"{subtest}\n{(self.failures + self.errors)[-1][1]}")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        self.note("skipped", self._name(test), reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self.note("passed", self._name(test))

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.note("failed", self._name(test), "passes, though CPython expects it to fail")


def run(record_path: str, seconds: float, module_name: str, class_name: str, ids: list[str], prove: bool) -> None:
    """Run the tests of one class that have the given ids. After `seconds` the process shows its stacks and ends."""
    record = Record(record_path)
    faulthandler.dump_traceback_later(seconds, exit=True)
    # A shell that runs us in the background has it ignored, and so would every child of a test.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if prove:
            prove_replaced()
        support: Any = importlib.import_module("test.support")
        support.use_resources = ["cpu", "walltime"]  # no network, no audio
        tests = {name: test for name, test in tests_of(module_name)[class_name].items() if name in ids}
        record.names = {id(test): name for name, test in tests.items()}
        if prove:
            prove_replaced()
            prove_tested(module_name, tests.values())
    except Exception as error:
        record.note("broken", text=f"{type(error).__name__}: {error}")
        raise
    unittest.TestSuite(tests.values()).run(record)
    record.note("done")
    faulthandler.dump_traceback_later(min(seconds, 10), exit=True)  # for whatever is left to end at exit


def main(arguments: list[str]) -> None:
    """Do what the first argument says."""
    what, *rest = arguments
    sys.path.append(str(SUITES))  # children that are spawned take it over
    if what == "list":
        print(json.dumps(list_tests(rest)))
    else:
        record, seconds, module, cls, *ids = rest
        run(record, float(seconds), module, cls, ids, prove=what == "run")


if __name__ == "__main__":
    main(sys.argv[1:])
