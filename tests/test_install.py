"""`phalanx.install()`: the standard modules change everywhere, and get back exactly what they had."""

import importlib
import subprocess
import sys
import textwrap
import threading
import types

import _thread
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
    import queue

    import _queue

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
    for name in ("allocate_lock", "allocate", "LockType"):
        assert getattr(_thread, name) is _core.Lock
    assert _thread.RLock is threading._CRLock is _core.RLock
    assert threading._allocate_lock is _core.Lock
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
    assert module.Mutex is module._alloc is _core.Lock
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
    assert threading.Lock is _core.Lock


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


# ---------------------------------------------------------------- modules that come later


def test_nothing_is_imported_just_to_patch_it():
    done = run("""
        import sys
        before = set(sys.modules)
        import phalanx
        phalanx.install()
        heavy = ("multiprocessing", "asyncio", "logging", "concurrent", "concurrent.futures", "typing", "inspect")
        print(sorted(name for name in set(sys.modules) - before if name in heavy))
    """)
    assert done.stdout == "[]\n"


def test_modules_imported_later_are_patched_as_they_come():
    done = run("""
        import phalanx
        phalanx.install()
        import queue, concurrent.futures as futures
        import phalanx.queue as ours
        import phalanx.concurrent.futures as our_futures
        from concurrent.futures import _base
        assert queue.Queue is ours.Queue and queue.ShutDown is ours.ShutDown and queue.SimpleQueue is ours.SimpleQueue
        assert queue.Empty is ours.Empty and queue.Full is ours.Full
        assert futures.Future is _base.Future is our_futures.Future
        assert futures.ThreadPoolExecutor is our_futures.ThreadPoolExecutor
        from concurrent.futures.thread import ThreadPoolExecutor
        assert ThreadPoolExecutor is our_futures.ThreadPoolExecutor
        from threading import Lock
        assert Lock is phalanx.threading.Lock
        phalanx.uninstall()
        assert queue.Queue is not ours.Queue and futures.Future is not our_futures.Future
        assert _base.Future is futures.Future
        assert futures.ThreadPoolExecutor is not our_futures.ThreadPoolExecutor
        print("ok")
    """)
    assert done.stdout == "ok\n"


@pytest.mark.parametrize(
    "imports",
    [
        "import queue, concurrent.futures, concurrent.futures.thread; import phalanx; phalanx.install()",
        "import phalanx.queue, phalanx.concurrent.futures, phalanx; phalanx.install(); import queue, concurrent.futures",
        "import phalanx; phalanx.install(); import phalanx.queue, phalanx.concurrent.futures",
        "import phalanx; phalanx.install(); import phalanx.concurrent.futures; import concurrent.futures.thread",
        "import phalanx; phalanx.install(); import concurrent.futures.thread, queue",
        "import phalanx; phalanx.install(); from concurrent.futures import *; from queue import *",
        "import phalanx; phalanx.install(); phalanx.uninstall(); import queue, concurrent.futures; phalanx.install()",
    ],
)
def test_the_order_of_imports_does_not_matter(imports):
    done = run(f"""
        {imports}
        import queue, concurrent.futures, phalanx.queue, phalanx.concurrent.futures as ours
        from concurrent.futures import _base, thread
        assert queue.Queue is phalanx.queue.Queue
        assert concurrent.futures.Future is _base.Future is ours.Future
        assert concurrent.futures.ThreadPoolExecutor is thread.ThreadPoolExecutor is ours.ThreadPoolExecutor
        print("ok")
    """)
    assert done.stdout == "ok\n"


def test_a_module_that_came_later_looks_untouched():
    done = run("""
        import phalanx
        phalanx.install()
        import importlib, inspect, queue
        loader = type(queue.__loader__).__name__
        assert queue.__spec__.loader is queue.__loader__ and loader == "SourceFileLoader", loader
        assert "class PriorityQueue" in inspect.getsource(queue)
        assert importlib.reload(queue) is queue
        import phalanx.queue
        assert queue.Queue is phalanx.queue.Queue
        phalanx.uninstall()
        assert queue.Queue is not phalanx.queue.Queue
        print("ok")
    """)
    assert done.stdout == "ok\n"


def test_threads_that_import_while_others_install():
    done = run("""
        import sys, threading
        import phalanx
        start = threading.Barrier(4)
        errors = []
        def work(number):
            try:
                start.wait()
                if number == 0:
                    phalanx.install()
                elif number == 1:
                    import queue
                elif number == 2:
                    import concurrent.futures
                else:
                    import phalanx.concurrent.futures, phalanx.queue
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join(20)
        import queue, concurrent.futures, phalanx.queue, phalanx.concurrent.futures
        print(errors, queue.Queue is phalanx.queue.Queue,
              concurrent.futures.Future is phalanx.concurrent.futures.Future)
    """)
    assert done.stdout == "[] True True\n"


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


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_work(how, tmp_path):
    script = tmp_path / "children.py"
    script.write_text(
        textwrap.dedent(f"""
        import phalanx
        phalanx.install()
        import multiprocessing, threading
        def work(pipe):
            phalanx.install()
            thread = threading.Thread(target=pipe.send, args=(threading.Lock is phalanx.threading.Lock,))
            thread.start()
            thread.join()
        if __name__ == "__main__":
            context = multiprocessing.get_context({how!r})
            ours, theirs = context.Pipe()
            child = context.Process(target=work, args=(theirs,))
            child.start()
            assert ours.poll(20)
            print(ours.recv())
            child.join()
            assert child.exitcode == 0
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_installed_by_a_pth_file_before_anything_else(tmp_path):
    (tmp_path / "phalanx_test.pth").write_text("import phalanx; phalanx.install()\n")
    done = run(
        f"""
        import site, sys
        before = "threading" in sys.modules
        site.addsitedir({str(tmp_path)!r})
        import threading
        print(before, type(threading.Lock()) is sys.modules["phalanx._core"].Lock)
        thread = threading.Thread(target=print, args=("thread",))
        thread.start()
        thread.join()
        """
    )
    assert done.stdout.splitlines()[0].endswith(" True")
    assert done.stdout.splitlines()[1] == "thread"
    assert done.stderr == ""


def test_a_subinterpreter_keeps_the_standard_library():
    done = run("""
        import phalanx
        phalanx.install()
        code = '''
import phalanx, queue, threading
phalanx.install()
assert not phalanx.installed()
assert threading.Event.__init__.__code__.co_filename == threading.__file__
with threading.Lock():
    queue.Queue().put(1)
'''
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        made = interpreters.create()
        failure = (interpreters.exec if hasattr(interpreters, "exec") else interpreters.run_string)(made, code)
        print(failure)
        interpreters.destroy(made)
    """)
    assert done.stdout == "None\n", done.stdout
