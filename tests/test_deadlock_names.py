"""What a deadlock report calls the objects of a program, and what it must never do to the program meanwhile."""

from __future__ import annotations

import builtins
import gc
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from phalanx import _naming, _peek, deadlock, errors


class Stage:
    """A small program whose threads sleep in `rest()`, which counts as machinery like `threading` itself."""

    def __init__(self) -> None:
        self.threads: dict[str, threading.Thread] = {}
        self.names: dict[str, Any] = {"__name__": "program", "Lock": threading.Lock, "stage": self}
        self._machinery: dict[str, Any] = {"__name__": "threading.stage"}
        self._curtain = threading.Event()
        self._arrived = threading.Semaphore(0)
        self._machinery |= {"arrived": self._arrived, "curtain": self._curtain}
        exec("def rest(*_): arrived.release(); curtain.wait()", self._machinery)
        self.names["rest"] = self._machinery["rest"]

    def play(self, source: str, **targets: str) -> Stage:
        """Run the program's text, then one thread for each target, an expression like ``work(lock)``."""
        exec(compile(textwrap.dedent(source), "/srv/program.py", "exec"), self.names)
        for name, call in targets.items():
            start = {"__name__": "threading.start", "call": compile(call, "start", "eval"), "names": self.names}
            run = eval("lambda: eval(call, names)", start)
            self.threads[name] = threading.Thread(target=run, name=name, daemon=True)
            self.threads[name].start()
            self._arrived.acquire()
        return self

    def cycle(self, *pairs: tuple[str, str], **more: Any) -> errors.DeadlockError:
        """The error for a circle of threads, given with what each waits for; the next thread owns it."""
        return next(map(deadlock.build_error, [self._snapshot(pairs, more)]))

    def _snapshot(self, pairs: tuple[tuple[str, str], ...], more: dict[str, Any]) -> dict[str, Any]:
        waits = []
        for index, (thread, wanted) in enumerate(pairs):
            owner = self.threads[pairs[(index + 1) % len(pairs)][0]]
            ident = self.threads[thread].ident
            entry = {"ident": ident, "native_id": 1, "kind": "Lock", "object": eval(wanted, self.names), "taken": None}
            waits.append({**entry, "owner": owner.ident, "owner_alive": True, **more})
        return {"cause": "cycle", "victim": waits[0]["ident"], "threads": waits}

    def close(self) -> None:
        self._curtain.set()
        for thread in self.threads.values():
            thread.join()


@pytest.fixture
def stage() -> Iterator[Stage]:
    found = Stage()
    yield found
    found.close()


def names(error: errors.DeadlockError) -> list[str]:
    return [thread.waits_for for thread in error.threads]


# ---------------------------------------------------------------- names


def test_a_global(stage: Stage) -> None:
    stage.play("gate = Lock()\ndef work(): rest(gate)", t="work()")
    error = stage.cycle(("t", "gate"))
    assert names(error) == ["gate"]
    assert error.threads[0].waits_at == "/srv/program.py:2"


def test_the_name_on_the_waiting_line_comes_first(stage: Stage) -> None:
    stage.play(
        """
        aaa = Lock()
        box = [aaa]
        def work():
            a = gate = z = box[0]
            rest(
                gate
            )
        """,
        t="work()",
    )
    assert names(stage.cycle(("t", "aaa"))) == ["gate"]


def test_an_attribute_is_named_after_its_class(stage: Stage) -> None:
    stage.play(
        """
        class Account:
            def __init__(self):
                self.lock = Lock()
            def draw(self):
                rest(self.lock)
        alice = Account()
        """,
        t="alice.draw()",
    )
    error = stage.cycle(("t", "alice.lock"))
    assert names(error) == ["Account.lock"]


def test_one_function_in_two_threads_gets_names_that_differ(stage: Stage) -> None:
    stage.play(
        """
        class Account:
            def __init__(self):
                self.lock = Lock()
        def transfer(source, target):
            rest(source.lock, target.lock)
        alice, bob = Account(), Account()
        """,
        first="transfer(alice, bob)",
        second="transfer(bob, alice)",
    )
    error = stage.cycle(("first", "bob.lock"), ("second", "alice.lock"))
    assert names(error) == ["bob.lock", "alice.lock"]
    assert error.hint == "take `alice.lock` before `bob.lock` in every thread"


def test_names_that_do_not_differ_are_numbered(stage: Stage) -> None:
    stage.play(
        """
        def work(left, right):
            rest(left, right)
        hidden = iter([Lock(), Lock()])
        x, y = hidden
        pair = lambda a=x, b=y: (a, b)
        del x, y
        """,
        first="work(*pair())",
        second="work(*reversed(pair()))",
    )
    error = stage.cycle(("first", "pair()[1]"), ("second", "pair()[0]"))
    assert names(error) == ["left #1", "left #2"]
    assert error.hint == "take the locks in one order in every thread, for example sorted by `id()`"


@pytest.mark.parametrize(
    ("source", "wanted", "name"),
    [
        ("forks = [Lock(), Lock()]\ndef work(): rest()", "forks[1]", "forks[1]"),
        (
            "class K: pass\nb, s = K(), K()\nb.safes = [s]\ns.door = Lock()\ndel s\ndef work(): rest()",
            "b.safes[0].door",
            "b.safes[0].door",
        ),
        ("def work(): rest()\nlocks = {'a b': (1, Lock())}", "locks['a b'][1]", "locks['a b'][1]"),
        ("class K: gate = Lock()\ndef work(): rest()", "K.gate", "K.gate"),
        ("class K: gate = Lock()\nk = K()\ndel K\ndef work(): rest(k.gate)", "k.gate", "K.gate"),
        ("class K: __slots__ = ('gate', 'empty')\nk = K()\nk.gate = Lock()\ndef work(): rest()", "k.gate", "k.gate"),
        ("import types\nm = types.ModuleType('m')\nm.gate = Lock()\ndef work(): rest(m.gate)", "m.gate", "m.gate"),
        (
            "def outer(l=Lock()):\n  def inner(): rest(l)\n  return inner, l\nwork, _ = outer()\n_ = [lambda: 0, _]",
            "_[1]",
            "l",
        ),
        ("import threading\nready = threading.Condition()\ndef work(): rest()", "ready._lock", "ready._lock"),
        ("import queue\njobs = queue.Queue()\ndef work(): rest()", "jobs.mutex", "jobs.mutex"),
        ("import queue\nclass Jobs(queue.Queue): pass\nj = Jobs()\ndef work(): rest()", "j.mutex", "j.mutex"),
        ("class Key: pass\nd = {Key(): Lock()}\ndef work(): rest()", "next(iter(d.values()))", "d[...]"),
        ("gr\u00fcn = Lock()\ndef work(): rest()", "gr\u00fcn", "gr\\xfcn"),
    ],
)
def test_where_names_are_found(stage: Stage, source: str, wanted: str, name: str) -> None:
    stage.play(source, t="work()")
    assert names(stage.cycle(("t", wanted))) == [name]


def test_the_variables_of_the_main_thread_help_out(stage: Stage) -> None:
    philosopher_forks = [threading.Lock(), threading.Lock()]
    stage.names["borrow"] = iter([philosopher_forks])
    stage.play("def eat(left, right): rest(left, right)\nmake = lambda f=next(borrow): f", a="eat(*make())")
    stage.play("", b="eat(*reversed(make()))")
    error = stage.cycle(("a", "make()[1]"), ("b", "make()[0]"))
    assert names(error) == ["philosopher_forks[1]", "philosopher_forks[0]"]


def test_names_that_others_chose_are_shown_in_ascii_on_one_line(stage: Stage) -> None:
    stage.play("gate = Lock()\ndef work(): rest()", t="work()")
    stage.threads["t"].name = 'z\u00fcrich\n"\x1b[31m'
    error = stage.cycle(("t", "gate"))
    assert str(error).isascii()
    assert str(error).splitlines()[1].startswith(r'  Thread "z\xfcrich\x0a"\x1b[31m"  holds gate')
    assert error.threads[0].name == 'z\u00fcrich\n"\x1b[31m'


def test_files_are_named_as_briefly_as_keeps_them_apart() -> None:
    places = [("/a/x/bank.py", 1), ("/a/y/bank.py", 2), ("/a/y/run.py", 3), ("<stdin>", 4), ("/a/pkg/__init__.py", 5)]
    short = _naming.short_places(places)
    assert list(short.values()) == ["x/bank.py:1", "y/bank.py:2", "run.py:3", "<stdin>:4", "pkg/__init__.py:5"]


def test_the_line_of_an_instruction() -> None:
    code = compile("a = 1\n\nb = 2", "p.py", "exec")
    lines = {_peek.line_at(code, offset) for offset in range(0, len(code.co_code), 2)}
    assert lines <= {0, 1, 3}
    assert {1, 3} <= lines
    assert _peek.line_at(code, 10_000) == code.co_firstlineno


# ---------------------------------------------------------------- what it must never do


def test_no_code_of_the_program_is_run(stage: Stage) -> None:
    called: list[object] = []
    stage.names["called"] = called
    stage.play(
        """
        def trap(*args, **kwargs):
            called.append(args)
            raise SystemExit
        class Meta(type):
            __getattribute__ = __instancecheck__ = __subclasscheck__ = __eq__ = __hash__ = trap
        class Trap(metaclass=Meta):
            __slots__ = ("inner", "__dict__")
            __getattr__ = __eq__ = __repr__ = __str__ = __bool__ = __len__ = __iter__ = __del__ = trap
            __hash__ = object.__hash__
            x = property(trap)
        class Deep(Trap):
            __getattribute__ = trap
            __dict__ = __class__ = property(trap)
        class Text(str):
            __str__ = __eq__ = __format__ = __len__ = __iter__ = encode = trap
            __hash__ = str.__hash__
        class Odd(dict):
            __getitem__ = __iter__ = items = keys = trap
        def work(self, trap=trap):
            odd, more = Odd(a=1), [self, Trap, Deep]
            rest(self)
        make = object.__new__
        t, d, gate = make(Trap), make(Deep), Lock()
        hidden = {"k": [t, d]}
        """,
        t="work(d)",
        u="work(t)",
    )
    stage.threads["t"]._name = stage.names["Text"]("t-\u00fc")  # type: ignore[attr-defined]
    error = stage.cycle(("t", "gate"), ("u", "t"))
    assert names(error) == ["gate", "t"]
    assert str(error).splitlines()[1].startswith(r'  Thread "t-\xfc"')
    assert called == []
    type.__delattr__(stage.names["Trap"], "__del__")
    with pytest.raises(SystemExit):
        hash(stage.names["Trap"])
    assert called


def test_no_lock_is_taken_and_nothing_imported(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.play("gate = Lock()\ndef work(): rest(gate)", t="work()")
    expected = str(stage.cycle(("t", "gate")))
    values = [value for value in vars(threading).values() if not isinstance(value, type)]
    locks = [lock for lock in values if hasattr(lock, "acquire") and hasattr(lock, "release")]
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        for lock in locks:
            lock.acquire()
        held.set()
        done.wait()
        for lock in locks:
            lock.release()

    def refuse(name: str, *_args: object, **_kwargs: object) -> None:
        raise AssertionError(f"imports {name}")

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "__import__", refuse)
            text = str(stage.cycle(("t", "gate")))
    finally:
        done.set()
        holder.join()
    assert locks
    assert text == expected


def test_nothing_is_kept_alive(stage: Stage) -> None:
    stage.play(
        """
        import weakref
        class Big: pass
        gate = Lock()
        def work():
            big = Big()
            stage.seen = weakref.ref(big)
            rest(gate)
            del big
            stage.left = stage.seen()
        """,
        t="work()",
    )
    gc.collect()
    gc.disable()
    try:
        error = stage.cycle(("t", "gate"), taken=(stage.names["work"].__code__, 2))
        gate = weakref.ref(stage.names.pop("gate"))
        stage.close()
        assert stage.left is None  # type: ignore[attr-defined]
        assert stage.seen() is None  # type: ignore[attr-defined]
        assert names(error) == ["gate"]
        assert gate() is None
    finally:
        gc.enable()


def test_a_dictionary_of_locals_that_the_program_holds_is_left_alone(stage: Stage) -> None:
    stage.play(
        """
        gate = Lock()
        def work():
            here = 5
            namespace = locals()
            rest(gate)
            stage.kept = dict(namespace)
        """,
        t="work()",
    )
    stage.cycle(("t", "gate"))
    stage.close()
    assert stage.kept["here"] == 5  # type: ignore[attr-defined]


def test_the_search_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    children: Callable[..., Any] = _peek.children

    def counting(*args: Any) -> Iterator[Any]:
        for child in children(*args):
            looked.append(child)
            yield child

    monkeypatch.setattr(_naming, "children", counting)
    stage.play("wide = [[[[0] * 300] * 300] * 300 for _ in range(3000)]\nhidden = iter([Lock()])\ndef work(): rest()")
    stage.play("lock = next(hidden)\nfind = lambda l=lock: l\ndel lock", t="work()")
    assert names(stage.cycle(("t", "find()")))[0].startswith("Lock at 0x")
    assert 0 < len(looked) < _naming.LOOKED_AT + _peek.ELEMENTS
