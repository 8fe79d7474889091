"""How long objects live, and what may be done with the classes: weak references, cycles, subclasses, no copies."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import queue as std_queue
import sys
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from tests.programs import run

from phalanx import queue, threading
from phalanx.concurrent import futures

MAKERS: dict[str, Callable[[], Any]] = {
    "Lock": threading.Lock,
    "RLock": threading.RLock,
    "Condition": threading.Condition,
    "Semaphore": threading.Semaphore,
    "BoundedSemaphore": threading.BoundedSemaphore,
    "Event": threading.Event,
    "Barrier": lambda: threading.Barrier(2),
    "Queue": queue.Queue,
    "LifoQueue": queue.LifoQueue,
    "PriorityQueue": queue.PriorityQueue,
    "SimpleQueue": queue.SimpleQueue,
    "Future": futures.Future,
    "ThreadPoolExecutor": lambda: futures.ThreadPoolExecutor(1),
}
QUEUES = ["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"]
every_kind = pytest.mark.parametrize("kind", list(MAKERS))
every_queue = pytest.mark.parametrize("kind", QUEUES)


class Thing:
    """Something with weak references, attributes and an order."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    def __lt__(self, other: object) -> bool:
        return False


# ---------------------------------------------------------------- weak references and copies


@every_kind
def test_dies_with_its_last_reference(kind: str) -> None:
    ended: list[int] = []
    thing = MAKERS[kind]()
    reference = weakref.ref(thing, lambda _: ended.append(1))
    assert reference() is thing
    del thing
    assert reference() is None and ended == [1]


@every_kind
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps], ids=lambda function: function.__name__)
def test_no_copies(kind: str, copier: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        copier(MAKERS[kind]())


# ---------------------------------------------------------------- cycles


def collected(*references: weakref.ref[Any]) -> bool:
    gc.collect()
    return all(reference() is None for reference in references)


@every_queue
@pytest.mark.parametrize("opened", [False, True])
def test_a_queue_with_an_item_that_refers_to_it(kind: str, opened: bool) -> None:
    q = MAKERS[kind]()
    thing = Thing(q=q, condition=q.not_empty if opened and kind != "SimpleQueue" else None)
    q.put(thing)
    references = weakref.ref(q), weakref.ref(thing)
    del q, thing
    assert collected(*references)


def test_a_condition_whose_lock_refers_to_it() -> None:
    lock: Any = type("Holder", (threading._CRLock,), {})()
    lock.condition = condition = threading.Condition(lock)
    references = weakref.ref(lock), weakref.ref(condition)
    del lock, condition
    assert collected(*references)


def test_a_barrier_whose_action_refers_to_it() -> None:
    thing = Thing()
    thing.barrier = barrier = threading.Barrier(1, functools.partial(setattr, thing, "ran", True))  # type: ignore[attr-defined]
    barrier.wait()
    reference = weakref.ref(barrier)
    del barrier, thing
    assert collected(reference)


@every_kind
def test_an_instance_of_a_subclass_that_refers_to_itself(kind: str) -> None:
    base: Any = type(MAKERS[kind]())
    if kind == "Lock":
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Child", (base,), {})
        return
    child = type("Child", (base,), {"__slots__": ("shelf",)})
    thing = child(1) if kind in ("Barrier", "ThreadPoolExecutor") else child()
    thing.shelf = [thing]
    if hasattr(thing, "__dict__"):  # not so in RLock and SimpleQueue, as in the standard library
        thing.me = [thing]
    reference = weakref.ref(thing)
    del thing
    assert collected(reference)


@pytest.mark.parametrize("how", ["result", "exception", "callback", "shared"])
def test_a_future_that_refers_to_itself(how: str) -> None:
    future: Any = futures.Future()
    if how == "result":
        future.set_result([future])
    elif how == "exception":
        future.set_exception(KeyError(future))
    elif how == "callback":
        future.add_done_callback(lambda _, keep=future: None)
    else:
        future._condition.keep = future
        future._waiters.append(future)
    reference = weakref.ref(future)
    del future
    assert collected(reference)


def test_an_executor_with_a_queued_call_that_refers_to_it() -> None:
    # Its workers end with it, and it ends with the call.
    program = """
    import concurrent.futures, weakref
    go, started = threading.Event(), threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.submit(lambda: (started.set(), go.wait())); started.wait()
    pool.submit([pool].index, pool)
    reference, [worker] = weakref.ref(pool), pool._threads
    del pool
    assert reference() is not None
    go.set(); worker.join()
    print(reference())
    """
    assert run(program, deadline=10) == (0, "None\n", "")


# ---------------------------------------------------------------- items


@every_queue
@pytest.mark.parametrize("opened", [False, True])
def test_an_item_is_held_once_while_queued_and_not_at_all_after(kind: str, opened: bool) -> None:
    q = MAKERS[kind]()
    if opened and kind != "SimpleQueue":
        q.mutex  # noqa: B018
    items = [Thing() for _ in range(50)]
    before = [sys.getrefcount(item) for item in items]
    for n in range(50):
        q.put(items[n])
    assert [sys.getrefcount(item) for item in items] == [count + 1 for count in before]
    for _ in range(50):
        q.get(timeout=1)
    assert [sys.getrefcount(item) for item in items] == before


@pytest.mark.parametrize("kind", QUEUES[:3])
def test_an_item_that_is_refused_is_not_kept(kind: str) -> None:
    q, item = MAKERS[kind](), Thing()
    q.maxsize = 1
    q.put(1)
    before = sys.getrefcount(item)
    with pytest.raises(queue.Full):
        q.put(item, timeout=0.001)
    assert sys.getrefcount(item) == before


@every_queue
def test_the_items_go_with_the_queue(kind: str) -> None:
    q, item = MAKERS[kind](), Thing()
    before = sys.getrefcount(item)
    q.put(item)
    q.put(item)
    del q
    assert sys.getrefcount(item) == before


def test_a_simple_queue_that_is_used_by_what_it_destroys() -> None:
    # The item's last reference goes inside get(), and a collection may start inside put().
    program = """
    q, made, ended = queue.SimpleQueue(), [], []
    class Item:
        def __init__(self, n): self.n, self.me = n, self; made.append(n)
        def __del__(self):
            ended.append(self.n)
            if self.n: q.put(self.n); q.put(Item(self.n - 1)); q.get_nowait()
    gc.set_threshold(3)
    for n in range(200): q.put(Item(n % 5)); q.get()
    gc.set_threshold(0)
    while len(ended) < len(made):
        while not q.empty(): q.get()
        gc.collect()
    print(sorted(made) == sorted(ended), len(made))
    """
    assert run(program) == (0, "True 600\n", "")


# ---------------------------------------------------------------- comparisons of a PriorityQueue


class Ranked:
    """Compares by rank; one with a negative rank refuses."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __lt__(self, other: Ranked) -> bool:
        if self.rank < 0 or other.rank < 0:
            raise KeyError(self.rank)
        return self.rank < other.rank


def account(module: ModuleType, opened: bool) -> list[Any]:
    """What a PriorityQueue tells while comparisons fail in put() and get()."""
    q: Any = module.PriorityQueue()
    told: list[Any] = []
    if opened:
        q.mutex  # noqa: B018

    def tell(step: Callable[..., Ranked | None], *arguments: object) -> None:
        try:
            item = step(*arguments)
            what: object = item and item.rank
        except KeyError:
            what = "refused"
        told.append((what, q.qsize(), q.unfinished_tasks))

    items = [Ranked(rank) for rank in (5, 3, 1, 4, 2)]
    for item in items:
        tell(q.put, item)
    tell(q.put, Ranked(-1))
    items[0].rank = -5
    for _ in range(2):
        tell(q.get)
    items[0].rank = 5
    for _ in range(2):
        tell(q.get)
    return told


@pytest.mark.parametrize("opened", [False, True])
def test_a_comparison_that_raises_leaves_the_same_counts_as_in_the_standard_library(opened: bool) -> None:
    told = account(queue, opened)
    assert told == account(std_queue, False)
    assert sum(what == "refused" for what, *_ in told) >= 2


def test_a_comparison_that_raises_keeps_no_item() -> None:
    items, q = [Ranked(rank) for rank in (3, 2, 1, -1)], queue.PriorityQueue()
    before = [sys.getrefcount(item) for item in items]
    for n in range(3):
        q.put(items[n])
    with pytest.raises(KeyError):
        q.put(items[3])
    del q
    assert [sys.getrefcount(item) for item in items] == before


@pytest.mark.parametrize("call", ["q.put(Item())", "q.get()", "q.qsize()"])
def test_a_comparison_that_uses_its_queue_gets_an_answer_or_an_error(call: str) -> None:
    program = f"""
    q = queue.PriorityQueue()
    class Item:
        armed = True
        def __lt__(self, other):
            if Item.armed:
                Item.armed = False
                try: {call}
                except phalanx.DeadlockError: print("told", file=sys.stderr)
            return False
    q.put(Item()); q.put(Item())
    print(q.qsize() == q.unfinished_tasks)
    """
    code, out, err = run(program, deadline=10)
    assert (code, out) == (0, "True\n") and err in ("", "told\n")


# ---------------------------------------------------------------- subclasses


@pytest.mark.parametrize(
    ("kind", "arguments", "probe"),
    [
        ("Condition", (), lambda thing: not thing._is_owned()),
        ("Semaphore", (3,), lambda thing: [thing.acquire(False) for _ in range(4)] == [True, True, True, False]),
        ("BoundedSemaphore", (2,), lambda thing: thing._initial_value == 2),
        ("Event", (), lambda thing: not thing.is_set()),
        ("Barrier", (1,), lambda thing: thing.wait() == 0),
        ("Queue", (1,), lambda thing: (thing.put(1), thing.full())[1]),
        ("LifoQueue", (1,), lambda thing: (thing.put(1), thing.full())[1]),
        ("PriorityQueue", (1,), lambda thing: (thing.put(1), thing.full())[1]),
        ("Future", (), lambda thing: not thing.done()),
        ("ThreadPoolExecutor", (1,), lambda thing: thing.submit(int).result() == 0),
    ],
)
def test_subclasses_have_their_own_arguments_slots_and_attributes(
    kind: str, arguments: tuple[int, ...], probe: Callable[[Any], bool]
) -> None:
    base: Any = type(MAKERS[kind]())

    class Mixin:
        def __init__(self, *arguments: int, tag: str) -> None:
            super().__init__(*arguments)
            self.tag = tag

    class Child(Mixin, base):  # type: ignore[misc]
        __slots__ = ("shelf",)

        def __init__(self, name: str, *, color: str) -> None:
            super().__init__(*arguments, tag=name)
            self.color = self.shelf = color

    thing = Child("n", color="red")
    assert (thing.tag, thing.color, thing.shelf) == ("n", "red", "red")
    assert vars(thing)["color"] == "red" and isinstance(thing, base)
    assert probe(thing)


def test_a_subclass_of_thread() -> None:
    class Worker(threading.Thread):
        def __init__(self, jobs: queue.Queue) -> None:
            super().__init__(name="worker")
            self.jobs = jobs

        def run(self) -> None:
            self.seen = list(iter(self.jobs.get, None))

    jobs = queue.Queue()
    worker = Worker(jobs)
    worker.start()
    for job in (1, 2, None):
        jobs.put(job)
    worker.join()
    assert worker.seen == [1, 2]


# ---------------------------------------------------------------- executors


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_a_pool_drops_a_call_as_soon_as_it_is_made(ending: str) -> None:
    def call(argument: Thing, *, word: Thing) -> Thing:
        if ending == "raises":
            raise KeyError
        return Thing()

    ended: list[str] = []
    with futures.ThreadPoolExecutor(1) as pool:
        argument, word = Thing(), Thing()
        weakref.finalize(argument, ended.append, "argument")
        weakref.finalize(word, ended.append, "word")
        future = pool.submit(call, argument, word=word)
        del argument, word
        try:
            weakref.finalize(future.result(), ended.append, "result")
        except KeyError as error:
            error.__traceback__ = None
        del future
        pool.submit(int).result()  # the worker is done with the call before
        assert sorted(ended) == (["argument", "result", "word"] if ending == "returns" else ["argument", "word"])


@pytest.mark.parametrize("consumer", ["map", "as_completed"])
def test_results_are_dropped_as_they_are_handed_out(consumer: str) -> None:
    alive: list[str] = []
    with futures.ThreadPoolExecutor(1) as pool:
        if consumer == "map":
            given = pool.map(lambda n: Thing(name=f"thing{n}"), range(6))
        else:
            given = futures.as_completed([pool.submit(Thing) for _ in range(6)])
        for thing in given:
            reference = weakref.ref(thing)
            del thing
            pool.submit(int).result()  # the worker has let go of it
            alive += [consumer] if reference() is not None else []
    assert alive == []
