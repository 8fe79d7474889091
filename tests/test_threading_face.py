"""`phalanx.threading`: the classes look and behave as those of the standard library, and there is one state."""

import importlib
import pickle
import threading as std
import time
import warnings
import weakref

import pytest

from phalanx import threading

LONG = 20  # seconds that a test never waits unless something is broken


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
        event, semaphore, bounded = module.Event(), module.Semaphore(3), module.BoundedSemaphore(3)
        barrier = module.Barrier(2)
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
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        pickle.dumps(threading.Lock())
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.RLock' object"):
        pickle.dumps(threading.RLock())


def test_the_lock_factory_says_where_it_lives():
    # Before 3.13 it is a function, and has to be found under its name in its module to be pickled.
    home = importlib.import_module(threading.Lock.__module__)
    assert threading.Lock.__module__ in ("_thread", "threading")
    assert hasattr(home, threading.Lock.__name__)
    assert threading.RLock.__module__ == std.RLock.__module__ == "threading"


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
        (threading.activeCount, "activeCount() is deprecated, use active_count() instead"),
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
        assert condition.wait_for(list, timeout=-1) == []
        asked = []
        assert condition.wait_for(lambda: len(asked) > 1 or asked.append(1), timeout=0.01) in (None, True)
    with pytest.raises(RuntimeError, match="cannot wait on un-acquired lock"):
        condition.wait_for(lambda: False, timeout=0.01)


# ---------------------------------------------------------------- one state


def test_what_is_not_ours_is_the_standard_librarys():
    for name in ("Thread", "Timer", "local", "enumerate", "BrokenBarrierError", "stack_size", "_active", "_shutdown"):
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
