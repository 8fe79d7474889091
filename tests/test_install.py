"""`phalanx.install()`: the standard modules change everywhere, and get back exactly what they had."""

import _thread
import importlib
import subprocess
import sys
import textwrap
import threading
import types

import pytest

import phalanx
from phalanx import _core
from phalanx import threading as face

DEADLINE = 30
LONG = 20
NAMES = ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier")


def run(code, *arguments, expect=0):
    """Run a script in a fresh interpreter, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


@pytest.fixture(autouse=True)
def clean():
    """Each test begins and ends with the plain standard library."""
    mode = _core.deadlock_mode()
    phalanx.uninstall()
    yield
    phalanx.uninstall()
    _core.set_deadlock_mode(mode)


@pytest.fixture
def module():
    """Give a loaded module that nobody else knows."""
    made = types.ModuleType("phalanx_test_module")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def snapshot():
    import _queue
    import queue

    return {
        (module.__name__, name): value
        for module in (threading, _thread, queue, _queue, sys.modules["_frozen_importlib"])
        for name, value in vars(module).items()
    }


# ---------------------------------------------------------------- what changes


def test_every_primitive_changes_in_place_and_comes_back():
    import queue

    before, path = snapshot(), list(sys.meta_path)
    phalanx.install()
    assert phalanx.installed()
    for name in NAMES:
        assert getattr(threading, name) is getattr(face, name)
    assert _thread.allocate_lock is _thread.allocate is face.Lock
    assert _thread.LockType is _core.Lock
    assert _thread.RLock is threading._CRLock is _core.RLock
    assert threading._allocate_lock is face.Lock
    assert type(_thread.allocate_lock()) is type(threading.Lock()) is _core.Lock
    for name in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue", "ShutDown"):
        assert getattr(queue, name) is getattr(importlib.import_module("phalanx.queue"), name)
    phalanx.uninstall()
    assert not phalanx.installed()
    after = snapshot()
    assert after.keys() == before.keys()
    assert [key for key in before if after[key] is not before[key]] == []
    assert sys.meta_path == path


def test_names_that_other_modules_took_change_too(module):
    vars(module).update(
        Mutex=threading.Lock, make=threading.RLock, _alloc=_thread.allocate_lock, Flag=threading.Event, other=threading
    )
    before = dict(vars(module))
    phalanx.install()
    assert module.Mutex is module._alloc is face.Lock
    assert module.make is face.RLock
    assert module.Flag is face.Event
    assert module.other is threading
    phalanx.uninstall()
    assert vars(module) == before


def test_main_is_a_module_like_any_other():
    done = run("""
        from threading import Lock, Condition as C
        from _thread import allocate_lock
        import phalanx
        plain = Lock
        phalanx.install()
        assert Lock is plain is allocate_lock is phalanx.threading.Lock and C is phalanx.threading.Condition
        phalanx.uninstall()
        assert type(Lock()).__name__ == "lock" and Lock is not phalanx.threading.Lock
        print("ok")
    """)
    assert done.stdout == "ok\n"


def test_what_is_not_a_plain_module_is_left_alone():
    class Lazy(types.ModuleType):
        def __getattribute__(self, name):
            raise AssertionError(f"{name} was asked for")

    class Strange:
        def __getattr__(self, name):
            raise AssertionError(f"{name} was asked for")

    names = {"phalanx_test_lazy": Lazy("lazy"), "phalanx_test_strange": Strange(), "phalanx_test_none": None}
    sys.modules.update(names)
    try:
        phalanx.install()
        phalanx.uninstall()
    finally:
        for name in names:
            del sys.modules[name]


def test_names_changed_by_somebody_else_are_kept(monkeypatch, module):
    module.Lock = threading.Lock
    phalanx.install()
    mine = object()
    monkeypatch.setattr(threading, "Event", mine)
    del module.Lock
    phalanx.uninstall()
    assert threading.Event is mine
    assert not hasattr(module, "Lock")
    monkeypatch.undo()
    assert threading.Event is face.Event
    original = next(base for base in _plain("Event") if base)
    threading.Event = original


def _plain(name):
    """The class of the standard library, from a process where nothing was changed, by its place in this one."""
    import gc

    for thing in gc.get_objects():
        if isinstance(thing, type) and thing.__name__ == name and thing.__module__ == "threading":
            yield thing if thing is not getattr(face, name) and face.Event not in thing.__mro__ else None


def test_the_import_system_keeps_its_own_locks():
    plain = _thread.allocate_lock
    phalanx.install()
    assert sys.modules["_frozen_importlib"]._thread.allocate_lock is plain
    assert _thread.allocate_lock is not plain
    phalanx.uninstall()
    assert sys.modules["_frozen_importlib"]._thread is _thread


def test_calling_twice_is_calling_once():
    before = snapshot()
    phalanx.install()
    first = snapshot()
    phalanx.install()
    second = snapshot()
    assert [key for key in first if second[key] is not first[key]] == []
    phalanx.uninstall()
    phalanx.uninstall()
    after = snapshot()
    assert [key for key in before if after[key] is not before[key]] == []
    phalanx.install()
    assert threading.Lock is face.Lock


def test_many_threads_may_install_at_once():
    before = snapshot()
    start = threading.Barrier(6)

    def work(step):
        start.wait(LONG)
        for _ in range(20):
            (phalanx.install if step else phalanx.uninstall)()

    threads = [threading.Thread(target=work, args=(number % 2,), daemon=True) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    phalanx.uninstall()
    after = snapshot()
    assert [key for key in before if after[key] is not before[key]] == []


# ---------------------------------------------------------------- the mode


def test_the_mode_is_checked_before_anything_changes():
    before = snapshot()
    for wrong in ("loud", "", 1, ("raise",)):
        with pytest.raises(ValueError, match="'raise', 'report' or 'off'"):
            phalanx.install(deadlock=wrong)
    assert not phalanx.installed()
    assert snapshot() == before


def test_the_mode_can_be_changed_by_calling_again():
    phalanx.install(deadlock="report")
    assert _core.deadlock_mode() == "report"
    phalanx.install()
    assert _core.deadlock_mode() == "report"
    phalanx.install(deadlock="off")
    assert _core.deadlock_mode() == "off"


def test_the_mode_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("PHALANX_DEADLOCK", "report")
    code = "import phalanx; phalanx.install(%s); print(phalanx._core.deadlock_mode())"
    assert run(code % "").stdout == "report\n"
    assert run(code % "deadlock='off'").stdout == "off\n"
    monkeypatch.delenv("PHALANX_DEADLOCK")
    assert run(code % "").stdout == "raise\n"


# ---------------------------------------------------------------- one world


def test_locks_of_both_kinds_mix():
    import queue

    plain_lock, plain_rlock = threading.Lock(), threading.RLock()
    plain_condition, plain_queue = threading.Condition(), queue.Queue()
    plain_event, old_event_class = threading.Event(), threading.Event
    phalanx.install()
    for lock in (plain_lock, plain_rlock):
        condition = threading.Condition(lock)
        woken = []

        def wait(condition=condition, woken=woken):
            with condition:
                woken.append(condition.wait(LONG))

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        while not woken and thread.is_alive():
            with condition:
                condition.notify()
        thread.join(LONG)
        assert woken == [True]
    threading.Thread(target=lambda: plain_queue.put(plain_event.wait(LONG)), daemon=True).start()
    plain_event.set()
    assert plain_queue.get(timeout=LONG) is True
    with plain_condition:
        assert plain_condition.wait(0.01) is False
    old = old_event_class()  # an old class makes its lock through the module, so it now runs on ours
    threading.Thread(target=old.set, daemon=True).start()
    assert old.wait(LONG)
    phalanx.uninstall()
    event = threading.Event()
    with face.Lock():
        threading.Thread(target=event.set, daemon=True).start()
        assert event.wait(LONG)


def test_threads_live_through_install_and_uninstall():
    gate = threading.Event()
    threads = []
    for change in (phalanx.install, phalanx.uninstall, phalanx.install, phalanx.uninstall):
        threads.append(threading.Thread(target=gate.wait, args=(LONG,), daemon=True))
        threads[-1].start()
        change()
        for thread in threads:
            thread.join(0.001)
            assert thread.is_alive()
    gate.set()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def test_uninstall_gives_the_thread_class_back_unless_our_threading_is_in_use():
    code = """
        import threading
        names = ("join", "_bootstrap_inner")
        before = [vars(threading.Thread)[name] for name in names], dict(vars(threading))
        {first}
        import phalanx
        phalanx.install()
        assert vars(threading.Thread)["join"] is not before[0][0]
        phalanx.uninstall()
        now = [vars(threading.Thread)[name] for name in names], dict(vars(threading))
        print(now == before)
    """
    assert run(code.format(first="")).stdout == "True\n"
    assert run(code.format(first="import phalanx.threading")).stdout == "False\n"
