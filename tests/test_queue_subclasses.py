"""Classes made from our queues: what they redefine is what everybody calls, the short forms and other processes too."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from tests.test_processes import METHODS, run, script

from phalanx import multiprocessing, queue
from phalanx.multiprocessing import queues

__all__ = ["script"]

THREADED = (queue.Queue, queue.LifoQueue, queue.PriorityQueue)
BETWEEN_PROCESSES = (queues.Queue, queues.JoinableQueue)


class Marks:
    """Marks what passes, from beside a queue: `super()` is the queue."""

    def put(self, item: Any, *how: Any, **more: Any) -> None:
        base: Any = super()
        base.put(("put", item), *how, **more)

    def get(self, *how: Any, **more: Any) -> Any:
        base: Any = super()
        return "got", base.get(*how, **more)


def beside(kind: Any) -> Any:
    return type("Beside", (Marks, kind), {})


def inside(kind: Any) -> Any:
    class Inside(kind):  # type: ignore[misc]
        def put(self, item: Any, *how: Any, **more: Any) -> None:
            super().put(("put", item), *how, **more)

        def get(self, *how: Any, **more: Any) -> Any:
            return "got", super().get(*how, **more)

    return Inside


@pytest.mark.parametrize("derive", [inside, beside])
@pytest.mark.parametrize("kind", THREADED + BETWEEN_PROCESSES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_the_short_forms_pass_by_the_long_ones(kind: Any, derive: Any) -> None:
    made = derive(kind)()
    made.put_nowait(1)
    made.put(2)
    assert [made.get_nowait(), made.get()] in ([("got", ("put", n)) for n in order] for order in ((1, 2), (2, 1)))


@pytest.mark.parametrize("kind", THREADED + BETWEEN_PROCESSES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_short_forms_of_its_own_stay(kind: Any) -> None:
    class Own(inside(kind)):  # type: ignore[misc]
        def put_nowait(self, item: Any) -> None:
            kind.put_nowait(self, ("short", item))

        def get_nowait(self) -> Any:
            return "soon", kind.get_nowait(self)

    made = Own()
    made.put_nowait(1)
    assert made.get_nowait() == ("soon", ("short", 1))


@pytest.mark.parametrize("derive", [inside, beside])
def test_a_simple_queue(derive: Any) -> None:
    made = derive(queues.SimpleQueue)(ctx=multiprocessing.get_context())
    made.put(1)
    assert made.get() == ("got", ("put", 1))


def test_one_method_of_a_simple_queue() -> None:
    class Marked(queues.SimpleQueue):
        def put(self, obj: Any) -> None:
            super().put(("put", obj))

    made = Marked()
    made.put(1)
    queues.SimpleQueue.put(made, 2)
    assert [made.get(), queues.SimpleQueue.get(made)] == [("put", 1), 2]


@pytest.mark.parametrize("method", METHODS)
def test_in_a_child(script: Path, method: str) -> None:
    program = """
    from multiprocessing import queues
    class Marked(queues.SimpleQueue):
        def put(self, obj): super().put(("put", obj))
        def get(self): return ("got", super().get())
    class Counted(queues.Queue):
        def put(self, obj, *how, **more): super().put(("put", obj), *how, **more)
        def get(self, *how, **more): return ("got", super().get(*how, **more))
    def work(simple, counted):
        counted.put_nowait(simple.get())
    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        simple, counted = Marked(ctx=context), Counted(ctx=context)
        process = context.Process(target=work, args=(simple, counted))
        process.start()
        simple.put(1)
        process.join()
        print(process.exitcode, counted.get_nowait())
    """
    outcome = run(script, program, method, head="standard")
    assert outcome == (0, "0 ('got', ('put', ('got', ('put', 1))))\n", "")


class Told(queues.Queue):
    """Is told of what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def _on_queue_feeder_error(self, e: BaseException, obj: object) -> None:  # type: ignore[override]
        self.told.append(obj)


class ToldToo(Marks, Told):
    """Is told as well, of what it has marked."""


@pytest.mark.parametrize(("kind", "marks"), [(Told, False), (ToldToo, True)])
def test_both_forms_tell_what_cannot_be_pickled(kind: type[Told], marks: bool) -> None:
    made, bad = kind(), lambda: 0
    made.put(bad)
    made.put_nowait(bad)
    made.put_nowait(1)
    assert made.told == [("put", bad) if marks else bad] * 2
    assert made.get() == (("got", ("put", 1)) if marks else 1)


def test_a_put_of_its_own_beside_the_hook_is_kept() -> None:
    class Both(inside(queues.Queue)):  # type: ignore[misc]
        def _on_queue_feeder_error(self, e: BaseException, obj: object) -> None:
            raise AssertionError("`super().put` raises, see docs/deviations.md")

    made = Both()
    made.put_nowait(1)
    assert made.get() == ("got", ("put", 1))
    with pytest.raises((pickle.PicklingError, AttributeError)):
        made.put(lambda: 0)
