"""`phalanx.threading`: the classes as the standard library shows them, and threads whose ends go through the door."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading as std
import time
import warnings
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


# ---------------------------------------------------------------- how the classes look


def test_reprs_are_those_of_the_standard_library():
    def shape(thing):
        return repr(thing).replace(f"{id(thing):#x}", "ID")

    for module in (std, threading):
        event, semaphore, bounded, barrier = module.Event(), module.Semaphore(3), module.BoundedSemaphore(3), module.Barrier(2)
        assert shape(event) == "<threading.Event at ID: unset>"
        event.set()
        assert shape(event) == "<threading.Event at ID: set>"
        semaphore.acquire()
        bounded.acquire()
        assert shape(semaphore) == "<threading.Semaphore at ID: value=2>"
        assert shape(bounded) == "<threading.BoundedSemaphore at ID: value=2/3>"
        assert shape(barrier) == "<threading.Barrier at ID: waiters=0/2>"
        barrier.abort()
        assert shape(barrier) == "<threading.Barrier at ID: broken>"
        lock = module.Lock()
        assert shape(lock).endswith("_thread.lock object at ID>")
        assert shape(lock).startswith("<unlocked ")
        with lock:
            assert shape(lock).startswith("<locked ")
        condition = module.Condition(lock)
        assert repr(condition) == f"<Condition({lock!r}, 0)>"
        assert "_thread.RLock object owner=0 count=0" in repr(module.Condition())


def test_the_repr_of_a_condition_counts_who_waits(gate):
    condition = threading.Condition()

    def wait():
        with condition:
            condition.wait_for(gate.is_set, LONG)

    threads = [start(wait) for _ in range(3)]
    end = time.monotonic() + LONG
    while not repr(condition).endswith(", 3)>") and time.monotonic() < end:
        time.sleep(0.001)
    assert repr(condition).endswith(", 3)>")
    gate.set()
    with condition:
        condition.notify_all()
    for thread in threads:
        thread.join(LONG)
    assert repr(condition).endswith(", 0)>")


@pytest.mark.parametrize("name", ["Semaphore", "BoundedSemaphore", "Event", "Condition", "Barrier"])
def test_classes_look_like_the_originals(name):
    cls = getattr(threading, name)
    args = (2,) if name == "Barrier" else ()
    thing = cls(*args)
    assert (cls.__module__, cls.__qualname__, cls.__name__) == ("threading", name, name)
    assert len(cls.__doc__) > 80
    thing.note = 1
    assert thing.__dict__["note"] == 1
    assert weakref.ref(thing)() is thing
    public = {attribute for attribute in dir(getattr(std, name)) if not attribute.startswith("_")}
    assert public <= set(dir(cls))

    class Child(cls):
        def __init__(self, extra):
            super().__init__(*args)
            self.extra = extra

    assert Child(7).extra == 7
    assert f"{Child.__module__}.{Child.__qualname__}" in repr(Child(7)) or name == "Condition"


def test_the_bounded_semaphore_is_a_semaphore():
    assert issubclass(threading.BoundedSemaphore, threading.Semaphore)


def test_locks_cannot_be_pickled():
    with pytest.raises(TypeError, match="cannot pickle '_thread.lock' object"):
        pickle.dumps(threading.Lock())
    with pytest.raises(TypeError, match="cannot pickle '_thread.RLock' object"):
        pickle.dumps(threading.RLock())


def test_lock_is_final_and_rlock_is_not():
    with pytest.raises(TypeError):
        type("Child", (threading.Lock,), {})
    child = type("Child", (threading._CRLock,), {})
    with child() as taken:
        assert taken is True


def test_arguments_for_an_rlock_warn_where_the_standard_library_warns():
    def count(module):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module.RLock(1)
        return [(str(warning.message), warning.filename) for warning in caught]

    assert count(threading) == count(std)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: threading.Event().isSet(), "isSet() is deprecated, use is_set() instead"),
        (lambda: held_condition().notifyAll(), "notifyAll() is deprecated, use notify_all() instead"),
        (lambda: threading.Thread().getName(), "getName() is deprecated, get the name attribute instead"),
        (lambda: threading.activeCount(), "activeCount() is deprecated, use active_count() instead"),
    ],
)
def test_old_names_warn_at_the_place_of_the_call(call, text):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert [(w.category, str(w.message), w.filename) for w in caught] == [(DeprecationWarning, text, __file__)]


def held_condition():
    condition = threading.Condition()
    condition.acquire()
    return condition


def test_methods_that_a_subclass_redefines_are_called():
    calls = []

    class Tracked(threading.Semaphore):
        def release(self, n=1):
            calls.append("release")
            super().release(n)

    class Bounded(threading.BoundedSemaphore):
        def release(self, n=1):
            calls.append("bounded")
            super().release(n)

    class Loud(threading.Condition):
        def notify(self, n=1):
            calls.append(n)
            super().notify(n)

    with Tracked(1), Bounded(1):
        pass
    with Loud() as _:
        pass
    loud = Loud()
    with loud:
        loud.notify_all()
    assert calls == ["bounded", "release", 0]


def test_wait_for_returns_what_the_predicate_said_last():
    condition = threading.Condition()
    with condition:
        assert condition.wait_for(lambda: "yes") == "yes"
        assert condition.wait_for(lambda: 0, timeout=0) == 0
        assert condition.wait_for(lambda: [], timeout=-1) == []
        asked = []
        assert condition.wait_for(lambda: len(asked) > 1 or asked.append(1), timeout=0.01) in (None, True)
    with pytest.raises(RuntimeError, match="cannot wait on un-acquired lock"):
        condition.wait_for(lambda: False, timeout=0.01)


# ---------------------------------------------------------------- one state


def test_what_is_not_ours_is_the_standard_librarys():
    for name in ("Thread", "Timer", "local", "enumerate", "current_thread", "BrokenBarrierError", "stack_size", "_active"):
        assert getattr(threading, name) is getattr(std, name)
    assert threading.__all__ == std.__all__
    assert set(dir(std)) - {"__builtins__"} <= set(dir(threading))
    with pytest.raises(AttributeError, match="no_such_name"):
        threading.no_such_name  # noqa: B018


def test_star_import_gives_every_public_name():
    names = {}
    exec("from phalanx.threading import *", names)
    assert set(std.__all__) <= set(names)
    assert names["Lock"] is threading.Lock


def test_module_variables_are_one(monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    assert std.excepthook is threading.excepthook
    start(lambda: 1 / 0).join(LONG)
    assert seen == [ZeroDivisionError]
    monkeypatch.undo()
    assert std.excepthook is threading.excepthook is not None
    threading._phalanx_test = 1
    assert std._phalanx_test == 1
    del threading._phalanx_test
    assert not hasattr(std, "_phalanx_test")


def test_there_is_one_list_of_threads(gate):
    thread = start(gate.wait, LONG, name="listed")
    assert thread in std.enumerate()
    assert threading.enumerate() == std.enumerate()
    assert threading.main_thread() is std.main_thread()


# ---------------------------------------------------------------- threads


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
    with pytest.raises(OverflowError, match="time|large"):
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


# ---------------------------------------------------------------- the end of the program

WAITS = {
    "Lock": "lock = threading.Lock(); lock.acquire(); wait = lock.acquire",
    "Lock with": "lock = threading.Lock(); lock.acquire(); wait = lock.__enter__",
    "RLock": "lock = threading.RLock(); lock.acquire(); wait = lock.acquire",
    "Condition": "c = threading.Condition()\ndef wait():\n    with c: c.wait()",
    "Condition.wait_for": "c = threading.Condition(threading.Lock())\ndef wait():\n    with c: c.wait_for(lambda: False)",
    "Semaphore": "wait = threading.Semaphore(0).acquire",
    "BoundedSemaphore": "s = threading.BoundedSemaphore(1); s.acquire(); wait = s.acquire",
    "Event": "wait = threading.Event().wait",
    "Event timed": "import functools; wait = functools.partial(threading.Event().wait, 60)",
    "Barrier": "wait = threading.Barrier(9).wait",
    "join": "t = threading.Thread(target=time.sleep, args=(60,), daemon=True); t.start(); wait = t.join",
    "join timed": "t = threading.Thread(target=time.sleep, args=(60,), daemon=True); t.start()\ndef wait(): t.join(60)",
    "Queue.get": "wait = queue.Queue().get",
    "Queue.put": "q = queue.Queue(1); q.put(1)\ndef wait(): q.put(2)",
    "Queue.join": "q = queue.Queue(); q.put(1); wait = q.join",
    "LifoQueue.get": "wait = queue.LifoQueue().get",
    "PriorityQueue.get": "wait = queue.PriorityQueue().get",
    "SimpleQueue.get": "wait = queue.SimpleQueue().get",
    "result": "wait = concurrent.futures.Future().result",
}


@pytest.mark.parametrize("kind", WAITS)
def test_daemon_threads_asleep_at_exit_do_no_harm(kind):
    done = run(f"""
import phalanx
phalanx.install()
import concurrent.futures, queue, threading, time
{WAITS[kind]}
threads = [threading.Thread(target=wait, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
time.sleep(0.1)
assert all(thread.is_alive() for thread in threads)
print("end of main")
""")
    assert (done.stdout, done.stderr) == ("end of main\n", "")


def test_daemon_threads_that_wake_up_all_the_time_do_no_harm_at_exit():
    for _ in range(3):
        done = run("""
            import phalanx
            phalanx.install()
            import queue, threading, time
            q = queue.Queue(1)
            lock, event, condition = threading.Lock(), threading.Event(), threading.Condition()
            def spin(wait):
                while True:
                    wait()
            def locked():
                with lock:
                    time.sleep(0)
            def conditioned():
                with condition:
                    condition.wait(0.001)
                    condition.notify_all()
            for wait in (locked, locked, conditioned, conditioned, q.get, lambda: q.put(1), lambda: event.wait(0.001)):
                threading.Thread(target=spin, args=(wait,), daemon=True).start()
            time.sleep(0.1)
        """)
        assert done.stderr == ""


def test_the_order_of_things_at_exit():
    done = run("""
        import atexit, threading as std, time
        import phalanx
        from phalanx import threading
        def slow(name):
            time.sleep(0.1)
            print(name, flush=True)
        def parent():
            time.sleep(0.1)
            threading.Thread(target=slow, args=("thread of a thread",)).start()
        def joiner():
            threading.main_thread().join()
            print("main thread has ended", flush=True)
        atexit.register(print, "atexit", flush=True)
        threading._register_atexit(print, "registered first", flush=True)
        threading._register_atexit(print, "registered second", flush=True)
        threading.Thread(target=joiner).start()
        threading.Thread(target=parent).start()
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        print("end of main", flush=True)
    """)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "end of main",
        "registered second",
        "registered first",
        "main thread has ended",
        "thread of a thread",
        "atexit",
    ]


def test_registering_at_exit_is_refused_after_the_threads_were_joined():
    done = run("""
        import atexit
        from phalanx import threading
        def late():
            try:
                threading._register_atexit(print)
            except RuntimeError as error:
                print(error)
        atexit.register(late)
    """)
    assert done.stdout == "can't register atexit after shutdown\n"


def test_shutdown_may_be_called_early_and_twice():
    done = run("""
        from phalanx import threading
        threading._register_atexit(print, "once")
        threading.Thread(target=lambda: print("thread")).start()
        threading._shutdown()
        threading._shutdown()
        print("end of main")
    """)
    assert sorted(done.stdout.split("\n")[:2]) == ["once", "thread"]
    assert done.stdout.endswith("end of main\n")


def test_threads_started_before_the_adoption_are_waited_for():
    done = run("""
        import threading, time
        threading.Thread(target=lambda: (time.sleep(0.2), print("early", flush=True))).start()
        import phalanx.threading
        late = threading.Thread(target=lambda: (time.sleep(0.1), print("late", flush=True)))
        late.start()
        print("end of main", flush=True)
    """)
    assert done.stdout.splitlines() == ["end of main", "late", "early"]


# ---------------------------------------------------------------- fork

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@forks
def test_threads_left_behind_by_a_fork_count_as_ended():
    done = run("""
        import os, warnings
        warnings.simplefilter("ignore")
        from phalanx import threading
        gate = threading.Event()
        others = [threading.Thread(target=gate.wait, args=(20,)) for _ in range(3)]
        for thread in others:
            thread.start()
        joiner = threading.Thread(target=others[0].join)
        joiner.start()
        pid = os.fork()
        if pid == 0:
            for thread in (*others, joiner):
                thread.join()
                assert not thread.is_alive()
            assert threading.enumerate() == [threading.main_thread()]
            fresh = threading.Thread(target=print, args=("child",))
            fresh.start()
            fresh.join()
        else:
            gate.set()
            assert os.waitpid(pid, 0)[1] == 0
            joiner.join()
    """)
    assert done.stdout == "child\n"


@forks
def test_the_thread_that_forks_is_the_main_thread_of_the_child():
    done = run("""
        import os, sys, warnings
        warnings.simplefilter("ignore")
        from phalanx import threading
        main = threading.current_thread()
        def follow(thread):
            thread.join()
            print("the forking thread has ended", flush=True)
        def work():
            pid = os.fork()
            if pid == 0:
                main.join()
                assert threading.main_thread() is threading.current_thread() is worker
                inner = threading.Thread(target=print, args=("child",), kwargs={"flush": True})
                inner.start()
                inner.join()
                threading.Thread(target=follow, args=(worker,)).start()
            else:
                assert os.waitpid(pid, 0)[1] == 0
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        print("end of main")
    """)
    assert done.stdout == "child\nthe forking thread has ended\nend of main\n"
    assert done.stderr == ""


@forks
def test_a_fork_at_exit_leaves_no_trace():
    done = run("""
        import atexit, os, sys
        from phalanx import threading
        def at_exit():
            pid = os.fork()
            if pid == 0:
                other = threading.Thread(target=threading.main_thread().join)
                try:
                    other.start()
                except RuntimeError:  # from 3.12 on: can't create new thread at interpreter shutdown
                    os._exit(0)
                other.join()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            print("parent")
        atexit.register(at_exit)
    """)
    assert (done.stdout, done.stderr) == ("parent\n", "")


# ---------------------------------------------------------------- signals

INTERRUPTED = {
    "join": "thread.join()",
    "join timed": "thread.join(60)",
    "Event": "threading.Event().wait()",
    "Event timed": "threading.Event().wait(60)",
    "Lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "RLock": "lock = threading.RLock(); hold(lock); lock.acquire()",
    "Semaphore": "threading.Semaphore(0).acquire()",
    "Barrier": "threading.Barrier(2).wait()",
    "Condition": "c = threading.Condition(); c.acquire(); c.wait()",
    "Queue.get": "queue.Queue().get()",
    "Queue.put": "q = queue.Queue(1); q.put(1); q.put(1)",
    "Queue.join": "q = queue.Queue(); q.put(1); q.join()",
    "SimpleQueue.get": "queue.SimpleQueue().get()",
    "result": "concurrent.futures.Future().result()",
}

SIGNALLED = """
import phalanx
phalanx.install()
import concurrent.futures, os, queue, signal, sys, threading, time
def hold(lock):
    taken = threading.Event()
    def other():
        lock.acquire()
        taken.set()
        time.sleep(60)
    threading.Thread(target=other, daemon=True).start()
    taken.wait()
thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
thread.start()
"""


@pytest.mark.parametrize("kind", INTERRUPTED)
def test_ctrl_c_ends_a_wait(kind):
    code = SIGNALLED + (
        f"def shoot():\n    time.sleep(0.2)\n    os.kill(os.getpid(), signal.SIGINT)\n"
        f"threading.Thread(target=shoot, daemon=True).start()\n"
        f"try:\n    {INTERRUPTED[kind]}\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    )
    assert run(code).stdout == "interrupted\n"


def test_ctrl_c_ends_the_wait_at_exit_as_in_the_standard_library():
    script = """
        import os, signal, sys, time
        {imports}
        import threading
        def shoot():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        threading.Thread(target=shoot).start()
        print("end of main", flush=True)
    """
    ends = []
    for imports in ("", "import phalanx; phalanx.install()"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script).format(imports=imports)],
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        ends.append((done.returncode, done.stdout, done.stderr.split()[-1]))
    assert ends[0] == ends[1] == (0, "end of main\n", "KeyboardInterrupt:")


TIMED = {
    "join": "thread.join(0.5)",
    "Event": "assert threading.Event().wait(0.5) is False",
    "Lock": "lock = threading.Lock(); lock.acquire(); assert lock.acquire(timeout=0.5) is False",
    "RLock": "lock = threading.RLock(); hold(lock); assert lock.acquire(timeout=0.5) is False",
    "Semaphore": "assert threading.Semaphore(0).acquire(timeout=0.5) is False",
    "Condition": "c = threading.Condition(); c.acquire(); assert c.wait(0.5) is False",
    "Condition.wait_for": "c = threading.Condition(); c.acquire(); assert c.wait_for(lambda: 0, 0.5) == 0",
    "Barrier": "try: threading.Barrier(2).wait(0.5)\n    except threading.BrokenBarrierError: pass",
    "Queue.get": "try: queue.Queue().get(timeout=0.5)\n    except queue.Empty: pass",
}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
@pytest.mark.parametrize("kind", TIMED)
def test_signal_handlers_run_during_a_wait_and_the_wait_keeps_its_end(kind):
    code = SIGNALLED + textwrap.dedent(f"""
        count = []
        signal.signal(signal.SIGALRM, lambda number, frame: count.append(time.monotonic()))
        def wait():
            {TIMED[kind].replace(chr(10), chr(10) + "        ")}
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        began = time.monotonic()
        wait()
        ended = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0)
        during = [at for at in count if began < at < ended - 0.02]
        assert len(during) >= 3, (began, count)
        assert 0.499 <= ended - began < 10, ended - began
        print("kept")
    """)
    assert run(code).stdout == "kept\n"


def test_an_exception_from_a_signal_handler_during_join_leaves_the_thread_as_it_is():
    done = run(SIGNALLED + textwrap.dedent("""
        class Stop(Exception):
            pass
        def handler(number, frame):
            raise Stop
        signal.signal(signal.SIGALRM, handler)
        for limit in (None, 60):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                thread.join(limit)
            except Stop:
                assert thread.is_alive()
                print("stopped")
    """))
    assert done.stdout == "stopped\nstopped\n"
