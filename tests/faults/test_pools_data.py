"""What goes through pools: arguments, results and exceptions that do not travel, or not load, or find no room."""

from __future__ import annotations

from tests.faults.pools import check, every, forked, variants

# ---- no memory


@every
def test_memory_error_in_a_task(pool: str) -> None:
    check(
        """
def hungry(): return len(bytearray(512 << 20))

def main():
    with make(2, initializer=tight, initargs=(128 << 20,)) as pool:
        tasks = among(pool, hungry)
        with fails(MemoryError, "hungry"): got(tasks.handle)
        tasks.right()
        usable(pool)
""",
        pool,
    )


@every
def test_memory_error_while_an_argument_is_rebuilt(pool: str) -> None:
    check(
        """
def take(thing): return len(thing)

def main():
    with make(2, initializer=tight, initargs=(128 << 20,)) as pool:
        tasks = among(pool, take, Balloon())
        with fails((MemoryError, RemoteError), "MemoryError", "take"): got(tasks.handle)
        tasks.right()
        usable(pool)
""",
        pool,
    )


@every
def test_a_large_argument_that_finds_no_room(pool: str) -> None:
    check(
        """
def take(thing): return len(thing)

def main():
    with make(2, initializer=tight, initargs=(128 << 20,)) as pool:
        tasks = among(pool, take, bytes(300_000_000))
        with fails(Exception, "take", "emory"): got(tasks.handle)
        tasks.right()
        usable(pool)
""",
        pool,
    )


# ---- what raises where it is loaded


@every
def test_an_argument_whose_load_raises(pool: str) -> None:
    check(
        """
def take(*things): return len(things)

def main():
    with make(2) as pool:
        for things in ((Bomb(),), (BLOB, [Bomb()])):
            tasks = among(pool, take, *things)
            with fails(Exception, "ZeroDivisionError", "the bomb was loaded", "take") as caught: got(tasks.handle)
            assert not isinstance(caught.error, WorkerDied), caught.error
            tasks.right()
        usable(pool)
""",
        pool,
    )


@every
def test_a_result_whose_load_raises(pool: str) -> None:
    check(
        """
def give(large): return (BLOB, Bomb()) if large else Bomb()

def main():
    with make(2) as pool:
        for large in (False, True):
            tasks = among(pool, give, large)
            with fails(Exception, "ZeroDivisionError", "the bomb was loaded", "give"): got(tasks.handle)
            tasks.right()
        usable(pool)
""",
        pool,
    )


@every
def test_a_result_nested_ten_thousand_deep(pool: str) -> None:
    check(
        """
def deep(levels):
    thing = 0
    for _ in range(levels): thing = [thing]
    return thing

def main():
    with make(2) as pool:
        tasks, levels = among(pool, deep, 10_000), 0
        try:
            thing = got(tasks.handle)
            while thing: (thing,), levels = thing, levels + 1
            assert levels == 10_000
        except AssertionError: raise
        except Exception as error: assert "recursion" in told(error) and "deep" in told(error), told(error)
        tasks.right()
        usable(pool)
""",
        pool,
    )


# ---- exceptions


@variants("what", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_a_task_raises_what_is_no_exception(what: str, pool: str) -> None:
    check(
        f"""
def leave(): raise {what}(3)

def main():
    with make(2) as pool:
        team(pool)
        tasks = among(pool, leave)
        with fails(({what}, WorkerDied, RemoteError), "{what}", "leave"): got(tasks.handle)
        tasks.right()
        with fails(({what}, WorkerDied, RemoteError), "{what}"): each(pool, odd_one, range(3))
        usable(pool)

def odd_one(n):
    if n == 1: raise {what}(4)
    return n
""",
        pool,
    )


@every
def test_an_exception_comes_back_as_itself(pool: str) -> None:
    check(
        """
class Mine(Exception):
    def __init__(self, text, number=0):
        super().__init__(text); self.number = number

def fail(): raise Mine("what went wrong", 7)  # the line

def main():
    with make(2) as pool:
        tasks = among(pool, fail)
        with fails(Mine, "what went wrong", place("the line").replace(":", '", line '), "in fail") as caught:
            got(tasks.handle)
        assert caught.error.number == 7 and caught.error.__cause__ is not None
        tasks.right()
        usable(pool)
""",
        pool,
    )


FUSSY = {
    "cannot be pickled": "class Odd(Exception):\n    def __init__(self, text): self.it = (n for n in text)",
    "cannot be rebuilt": "class Odd(Exception):\n    def __init__(self, one, two): super().__init__(one)",
    "raises when pickled": 'class Odd(Exception):\n    def __reduce__(self): raise ValueError("not this way")',
    "raises when rebuilt": "class Odd(Exception):\n    def __reduce__(self): return (explode, ())",
    "is local": "pass",
}


@variants("how", FUSSY)
def test_an_exception_that_does_not_travel(how: str, pool: str) -> None:
    check(
        f"""
{FUSSY[how]}
def local():
    class Odd(Exception): pass
    return Odd

def fail():
    if "{how}" == "is local": raise local()("what went wrong")
    if "{how}" == "cannot be rebuilt": raise Odd("what went wrong", 2)
    raise Odd("what went wrong")

def main():
    with make(2) as pool:
        tasks = among(pool, fail)
        with fails(Exception, "Odd", "what went wrong", "in fail") as caught: got(tasks.handle)
        error = caught.error
        if "{how}" != "is local":
            assert isinstance(error, RemoteError), error
            assert "Odd" in error.type_name and "what went wrong" in error.text and "in fail" in error.traceback
        tasks.right()
        usable(pool)
""",
        pool,
    )


@forked
def test_a_remote_error_travels_on(pool: str) -> None:
    check(
        """
class Odd(Exception):
    def __init__(self, one, two): super().__init__(one)

def fail(): raise Odd("what went wrong", 2)
def died(): quit_by("SIGKILL")

def main():
    with make(2) as pool:
        for task, kind, names in (
            (fail, RemoteError, ("type_name", "text", "traceback")),
            (died, WorkerDied, ("task", "worker", "pid", "reason", "last_event")),
        ):
            with fails(kind) as caught: got(send(pool, task))
            again = pickle.loads(pickle.dumps(caught.error))
            assert type(again) is kind and str(again) == str(caught.error)
            for name in names: assert getattr(again, name) == getattr(caught.error, name), name
""",
        pool,
    )


# ---- what does not travel


@every
def test_an_argument_that_cannot_be_pickled(pool: str) -> None:
    check(
        """
class Box: pass

def take(thing): return 1

def main():
    outer = Box(); outer.inner = Box(); outer.inner.things = [1, (n for n in "ab")]
    with make(2) as pool:
        for thing, words in ((outer, ("generator", "inner.things")), (Stubborn(), ("it will not be pickled",))):
            good = [send(pool, square, n) for n in range(10)]
            # At the call or by its handle; which, is the kind of pool's affair.
            with fails((*REFUSED, ZeroDivisionError), *words, "take"): got(send(pool, take, thing))
            good += [send(pool, square, n) for n in range(10, 20)]
            assert [got(one) for one in good] == squares(20)
        with fails(REFUSED, "generator"): each(pool, take, [1, outer, 3])
        usable(pool)
""",
        pool,
    )


@every
def test_a_result_that_cannot_be_pickled(pool: str) -> None:
    check(
        """
class Box: pass

def give(stubborn):
    if stubborn: return Stubborn()
    outer = Box(); outer.inner = Box(); outer.inner.things = [1, (n for n in "ab")]
    return outer

def main():
    with make(2) as pool:
        for stubborn, words in ((False, ("generator", "inner.things")), (True, ("it will not be pickled",))):
            tasks = among(pool, give, stubborn)
            with fails(Exception, *words, "give"): got(tasks.handle)
            tasks.right()
        usable(pool)
""",
        pool,
    )
