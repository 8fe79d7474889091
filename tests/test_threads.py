"""Threads whose ends go through the door: start, join, the adoption of the standard class."""

import subprocess
import sys
import textwrap
import threading as std
import time
import weakref

import pytest

from phalanx import _threads, threading

DEADLINE = 30
LONG = 20  # seconds that a test never waits unless something is broken


def run(code, *, expect=0):
    """Run a script in a fresh interpreter, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


@pytest.fixture
def gate():
    """An event that ends every thread of the test."""
    event = threading.Event()
    yield event
    event.set()


def start(target, *args, **kwargs):
    thread = threading.Thread(target=target, args=args, daemon=True, **kwargs)
    thread.start()
    return thread


def test_a_thread_class_of_ones_own(gate):
    class Counting(threading.Thread):
        joined = 0

        def __init__(self):
            super().__init__(name="counting", daemon=True)
            self.result = None

        def run(self):
            self.result = (threading.current_thread() is self, self.daemon, self.name, self.native_id is not None)

        def join(self, timeout=None):
            type(self).joined += 1
            super().join(timeout)

    thread = Counting()
    thread.start()
    thread.join(LONG)
    assert thread.result == (True, True, "counting", True)
    assert Counting.joined == 1
    assert repr(thread) == f"<Counting(counting, stopped daemon {thread.ident})>"


def test_misuse_raises_as_in_the_standard_library(gate):
    thread = threading.Thread(target=gate.wait, args=(LONG,), daemon=True)
    with pytest.raises(RuntimeError, match="cannot join thread before it is started"):
        thread.join()
    thread.start()
    with pytest.raises(RuntimeError, match="threads can only be started once"):
        thread.start()
    with pytest.raises(RuntimeError, match="cannot set daemon status of active thread"):
        thread.daemon = False
    with pytest.raises(RuntimeError, match="cannot join current thread"):
        threading.current_thread().join()
    with pytest.raises(TypeError):
        thread.join("soon")
    gate.set()
    thread.join(LONG)
    with pytest.raises(RuntimeError, match="threads can only be started once"):
        thread.start()


def test_a_thread_cannot_join_itself():
    errors = []

    def join_myself():
        try:
            threading.current_thread().join()
        except RuntimeError as error:
            errors.append(str(error))

    start(join_myself).join(LONG)
    assert errors == ["cannot join current thread"]


def test_a_thread_whose_constructor_was_not_called():
    class Hasty(threading.Thread):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match=r"Thread.__init__\(\) not called"):
        Hasty().join()


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5, float("-inf"), 0.01, True, 10**-9])
def test_join_with_a_time_limit_comes_back_while_the_thread_runs(gate, timeout):
    thread = start(gate.wait, LONG)
    began = time.monotonic()
    assert thread.join(timeout) is None
    assert time.monotonic() - began < LONG / 2
    assert thread.is_alive()
    gate.set()
    thread.join(LONG)
    assert not thread.is_alive()


def test_join_waits_at_least_its_time(gate):
    thread = start(gate.wait, LONG)
    began = time.monotonic()
    thread.join(0.05)
    assert time.monotonic() - began >= 0.05


def test_join_comes_back_when_the_thread_ends_before_the_time():
    thread = start(time.sleep, 0.05)
    for limit in (threading.TIMEOUT_MAX, None, LONG, 0):
        thread.join(limit)
        assert not thread.is_alive()


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, threading.TIMEOUT_MAX * 2, 10**30])
def test_join_with_too_much_time_overflows(gate, timeout):
    thread = start(gate.wait, LONG)
    with pytest.raises(OverflowError, match=r"time|large"):
        thread.join(timeout)


def test_join_from_many_threads_at_once():
    for _ in range(10):
        slow = start(time.sleep, 0.01)
        joiners = [start(slow.join) for _ in range(8)]
        for joiner in joiners:
            joiner.join(LONG)
        assert not slow.is_alive()
        assert not any(joiner.is_alive() for joiner in joiners)


def test_after_join_nothing_of_the_thread_is_left():
    destroyed = []

    class Slow:
        def __del__(self):
            time.sleep(0.02)
            destroyed.append(1)

    local = threading.local()

    def fill():
        local.value = Slow()

    for count in range(1, 4):
        thread = start(fill)
        thread.join()
        assert len(destroyed) == count
        assert not thread.is_alive()
        assert thread not in threading.enumerate()


def test_a_thread_does_not_stay_alive_through_its_latch():
    class Payload:
        pass

    payload = Payload()
    alive = weakref.ref(payload)
    thread = threading.Thread(target=lambda held: None, args=(payload,))
    dead = weakref.ref(thread)
    thread.start()
    thread.join()
    del payload, thread
    assert alive() is None
    assert dead() is None


def test_an_exception_in_a_thread_ends_only_that_thread(monkeypatch):
    seen = []
    monkeypatch.setattr(std, "excepthook", lambda args: seen.append((args.exc_type, args.thread.name)))
    thread = start(lambda: 1 / 0, name="dividing")
    thread.join(LONG)
    assert seen == [(ZeroDivisionError, "dividing")]
    assert not thread.is_alive()


def test_tracing_and_profiling_hooks_see_the_thread_and_may_fail(monkeypatch):
    monkeypatch.setattr(std, "excepthook", lambda args: None)
    calls = []

    def work():
        calls.append("work")

    def profile(frame, event, argument):
        calls.append(event)

    def failing(frame, event, argument):
        if frame.f_code.co_name == "_bootstrap_inner" and event == "c_call":
            raise ValueError("from the profile function")

    threading.setprofile(profile)
    try:
        start(work).join(LONG)
        threading.setprofile(failing)
        thread = start(work)
        thread.join(LONG)
        assert not thread.is_alive()
    finally:
        threading.setprofile(None)
    assert calls.count("work") == 2
    assert "call" in calls


def test_adoption_can_be_undone_and_repeated(gate):
    original = _threads._original["join"]
    early = start(gate.wait, LONG)
    assert _threads.adopted()
    _threads.adopt()
    _threads.release()
    try:
        assert std.Thread.join is original
        assert not _threads.adopted()
        plain = start(gate.wait, LONG)
        _threads.release()
    finally:
        _threads.adopt()
    assert std.Thread.join is not original
    late = start(gate.wait, LONG)
    for thread in (early, plain, late):
        thread.join(0.01)
        assert thread.is_alive()
    gate.set()
    for thread in (early, plain, late):
        thread.join(LONG)
        assert not thread.is_alive()


def test_a_wrapper_of_somebody_else_survives_release_and_adoption(gate, monkeypatch):
    run("""
        from phalanx import _threads, threading
        inner = threading.Thread.join
        joined = []
        def wrapper(self, timeout=None):
            joined.append(self)
            return inner(self, timeout)
        threading.Thread.join = wrapper
        for change in (_threads.release, _threads.adopt, _threads.release):
            change()
            assert threading.Thread.join is wrapper
            thread = threading.Thread(target=len, args=("",))
            thread.start()
            thread.join()
            assert not thread.is_alive()
        assert len(joined) == 3
    """)
