"""Managers: what lies in shared memory behaves as the plain types do."""

from __future__ import annotations

import multiprocessing.managers as standard
import pickle
import random
import threading
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from phalanx import _core
from phalanx.multiprocessing import _tables, get_context, managers

core: Any = _core
SEEDS = range(6)


@pytest.fixture(scope="module")
def manager() -> Iterator[Any]:
    with get_context("fork").Manager() as manager:
        yield manager


@pytest.fixture(params=["shared", "served", "moved"])
def way(request: pytest.FixtureRequest) -> str:
    """Where operations are done: in shared memory, by the server there, or by the server on a plain object."""
    return str(request.param)


def put(proxy: Any, way: str) -> Any:
    if way != "shared":
        proxy.__dict__["_table"] = _tables.NOWHERE
    if way == "moved":
        kinds = {"dict": ("pop", frozenset(), None), "set": ("discard", frozenset())}
        kind = proxy._token.typeid
        if kind in kinds:
            getattr(proxy, kinds[kind][0])(*kinds[kind][1:])
        else:
            other = standard.BaseProxy.__new__(Stranger)
            other._owned_by_manager = False
            proxy._callmethod("append", (other,))
            proxy._callmethod("pop")
    return proxy


class Stranger(standard.BaseProxy):  # type: ignore[misc]
    """Looks like a proxy of another manager."""

    def __reduce__(self) -> Any:
        return _stranger, (b"RebuildProxy",)


def _stranger(_: bytes) -> Any:
    other = standard.BaseProxy.__new__(Stranger)
    other._owned_by_manager = False
    return other


class Same:
    """Equal to all of its kind with the same number, by an operation of its own."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __repr__(self) -> str:
        return f"Same({self.number})"


def type_name(thing: Any) -> str:
    return type(thing).__name__


def outcome(deed: Any, thing: Any) -> Any:
    """What a deed gives, or the class and the words of what it raises."""
    try:
        return deed(thing)
    except Exception as error:
        return type(error), str(error)


def value(dice: random.Random) -> Any:
    return dice.choice(
        [
            dice.randrange(-(2**70), 2**70),
            dice.randrange(20),
            dice.random(),
            None,
            True,
            "w" * dice.randrange(30),
            "ü\U0001f600\ud800"[: dice.randrange(4)],
            bytes(dice.randrange(40)),
            bytearray(b"ab"),
            (1, "a", (2.5, None)),
            [1, {"a": [2]}],
            {3: "x"},
            Same(dice.randrange(5)),
            "long" * 5000,
            bytes(dice.randrange(30000)),
            array("d", [0.5] * 3000),
        ]
    )


# ---------------------------------------------------------------- dict


def key(dice: random.Random) -> Any:
    number = dice.randrange(4)
    return dice.choice(
        [
            number,
            float(number),
            number / 2,
            bool(number % 2),
            -0.0,
            str(number),
            str(number).encode(),
            None,
            (number, "a"),
            (float(number), "a"),
            (bool(number % 2), (1, 2.0), b"x"),
            float("inf"),
            "",
            "ü" * number,
            "k" * 3000,
            2**62 + number,
        ]
    )


def dict_deeds(dice: random.Random, k: Any, v: Any) -> list[Any]:
    return [
        lambda d: d.__setitem__(k, v),
        lambda d: d.__setitem__(k, v),
        lambda d: d.__setitem__(k, v),
        lambda d: d[k],
        lambda d: d.get(k),
        lambda d: d.get(k, 5),
        lambda d: k in d,
        len,
        lambda d: d.__delitem__(k),
        lambda d: d.pop(k),
        lambda d: d.pop(k, "no"),
        lambda d: d.popitem(),
        lambda d: d.setdefault(k, v),
        lambda d: d.setdefault(k),
        lambda d: d.update({k: v, "u": 1}),
        lambda d: d.update([(k, v)], more=2),
        lambda d: d.update(7),
        lambda d: d | {k: v},
        lambda d: {k: v} | d,
        list,
        lambda d: list(reversed(d)),
        lambda d: list(d.keys()),
        lambda d: list(d.values()),
        lambda d: list(d.items()),
        lambda d: d.copy(),
        lambda d: d.clear() if dice.random() < 0.1 else None,
        lambda d: d[[]],
        lambda d: d.__setitem__({}, 1),
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dict_does_what_a_dict_does(manager: Any, way: str, seed: int) -> None:
    dice = random.Random(seed)
    ours, plain = put(manager.dict(), way), {}
    for _ in range(300 if way == "shared" else 120):
        k, v = key(dice), value(dice)
        deed = dice.choice(dict_deeds(dice, k, v))
        state = dice.getstate()
        expected = outcome(deed, plain)
        dice.setstate(state)
        assert outcome(deed, ours) == expected
        assert list(map(repr, ours.keys())) == list(map(repr, plain))
    assert ours.copy() == plain and ours._getvalue() == plain and list(ours.items()) == list(plain.items())
    assert ours._table is _tables.NOWHERE or not ours._table.moved


def test_equal_keys_are_one_key_and_the_first_stays(manager: Any) -> None:
    table = manager.dict({1: "a", (1.0, "x"): 1, 0: "z"})
    table[True] = "b"
    table[1.0] = "c"
    table[-0.0] = "y"
    table[True, "x"] = 2
    assert repr(table.copy()) == "{1: 'c', (1.0, 'x'): 2, 0: 'y'}"
    assert table[True] == table[1] == "c" and (1, "x") in table and "1" not in table and b"1" not in table
    table["a"], table[b"a"] = 1, 2
    assert table["a"] == 1 and table[b"a"] == 2
    assert not table._table.moved


@pytest.mark.parametrize(
    "odd", [10**30, frozenset({1}), float("nan"), "\ud800", Same(1), (1, Same(2)), "k" * 10_000, ((((((1,),),),),),)]
)
def test_a_key_that_cannot_lie_in_shared_memory_moves_the_dict(manager: Any, odd: Any) -> None:
    table = manager.dict(a=1, b=[2])
    other = pickle.loads(pickle.dumps(table))
    assert other["a"] == 1
    table[odd] = "odd"
    assert table._table.moved
    assert len(other) == 3 and other["b"] == [2] and list(other)[:2] == ["a", "b"]
    if odd == odd:
        assert other[odd] == "odd"
        del other[odd]
        assert odd not in table
    other["c"] = 3
    assert table["c"] == 3 and table.pop("a") == 1
    with pytest.raises(KeyError):
        other["a"]


def test_what_the_server_cannot_load_survives_the_move(manager: Any) -> None:
    table = manager.dict(good=1)
    Unloadable.loads = True
    table["bad"] = Unloadable()
    table[10**40] = 2
    assert table._table.moved
    assert type(table["bad"]) is Unloadable and table["good"] == 1


class Unloadable:
    """Can be loaded in this process only."""

    loads = False

    def __reduce__(self) -> Any:
        return _load, ()


def _load() -> Unloadable:
    if not Unloadable.loads:
        raise RuntimeError("not here")
    return Unloadable()


def test_going_through_a_dict_that_changes_its_size(manager: Any) -> None:
    table = manager.dict(dict.fromkeys("abc"))
    keys = iter(table)
    assert next(keys) == "a"
    table["b"] = 5
    assert next(keys) == "b"
    table.clear()
    with pytest.raises(RuntimeError, match="dictionary changed size during iteration"):
        next(keys)
    assert list(keys) == []


def test_nothing_is_left_of_what_was_removed(manager: Any) -> None:
    table, items = manager.dict(), manager.list()
    assert not table and not items  # the tables are found
    before = core.shared_usage()[0]
    for _ in range(30):
        table["x"] = bytes(100_000)
        table["x"] = [b"y" * 50_000]
        items.extend([bytes(100_000), 1, "s" * 20_000])
        items[1:1] = [bytes(30_000)] * 3
        items[::2] = [b"z" * 9000] * 3
        assert len(table.pop("x")[0]) == 50_000 and items.pop(0) == b"z" * 9000
        del items[:]
    table.clear()
    items.clear()
    assert core.shared_usage()[0] - before < 100_000


# ---------------------------------------------------------------- list


def list_deeds(dice: random.Random, v: Any, i: int, j: int, step: Any, new: list[Any]) -> list[Any]:
    return [
        lambda a: a.append(v),
        lambda a: a.append(v),
        lambda a: a.append(v),
        lambda a: a.extend(new),
        lambda a: a[i],
        lambda a: a.__setitem__(i, v),
        lambda a: a.__delitem__(i),
        lambda a: a[i:j:step],
        lambda a: a[i:],
        lambda a: a.__setitem__(slice(i, j), new),
        lambda a: a.__setitem__(slice(i, j, step), new),
        lambda a: a.__delitem__(slice(i, j, step)) if dice.random() < 0.3 else None,
        lambda a: a.insert(i, v),
        lambda a: a.insert(0, v),
        lambda a: a.pop(),
        lambda a: a.pop(0),
        lambda a: a.pop(i),
        lambda a: a.remove(v),
        lambda a: a.index(v),
        lambda a: a.count(v),
        lambda a: v in a,
        lambda a: a.reverse(),
        lambda a: a.sort(key=repr),
        lambda a: a.sort(key=type_name, reverse=True),
        len,
        list,
        lambda a: list(reversed(a)),
        lambda a: a + new,
        lambda a: a * 2,
        lambda a: a.__imul__(dice.choice([0, 1, 2])) is a if len(a) < 20 and dice.random() < 0.2 else None,
        lambda a: a.__iadd__(new) is a,
        lambda a: a["x"],
        lambda a: a[10**30],
        lambda a: a.__setitem__(slice(None, None, 0), []),
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_list_does_what_a_list_does(manager: Any, way: str, seed: int) -> None:
    dice = random.Random(seed)
    start = [value(dice) for _ in range(5)]
    ours, plain = put(manager.list(start), way), list(start)
    for _ in range(300 if way == "shared" else 120):
        v, i, j = value(dice), dice.randrange(-9, 9), dice.randrange(-9, 9)
        step = dice.choice([None, 1, 1, 2, -1, -2, 3])
        new = [value(dice) for _ in range(dice.randrange(4))]
        deed = dice.choice(list_deeds(dice, v, i, j, step, new))
        state = dice.getstate()
        expected = outcome(deed, plain)
        dice.setstate(state)
        assert outcome(deed, ours) == expected
        assert len(ours) == len(plain)
    assert ours[:] == plain and ours._getvalue() == plain


def test_sorting(manager: Any) -> None:
    items = manager.list([3, 1, 2.5, True])
    items.sort()
    assert items[:] == [1, True, 2.5, 3]
    items.sort(key=lambda item: -item)
    assert items[:] == [3, 2.5, 1, True]
    items.sort(key=lambda _: 0, reverse=True)
    assert repr(items[:]) == "[3, 2.5, 1, True]"
    items.append("a")
    with pytest.raises(TypeError, match="not supported"):
        items.sort()
    assert items[:] == [3, 2.5, 1, True, "a"]


def test_a_list_that_changes_while_it_is_sorted(manager: Any) -> None:
    items = manager.list([3, 1, 2])
    calls = []

    def mark(item: int) -> int:
        if len(calls) < 4:
            items[len(calls) % 3] = 9 - len(calls)  # as many as before, but others
        calls.append(item)
        return item

    items.sort(key=mark)
    assert items[:] == [6, 7, 8] and len(calls) > 6


# ---------------------------------------------------------------- set, value, namespace


def set_deeds(dice: random.Random, k: Any, others: list[list[Any]], other: set[Any]) -> list[Any]:
    return [
        lambda s: s.add(k),
        lambda s: s.add(k),
        lambda s: s.discard(k),
        lambda s: s.remove(k),
        lambda s: k in s,
        len,
        set,
        lambda s: s.copy(),
        lambda s: s.update(*others),
        lambda s: s.intersection_update(*others) if dice.random() < 0.3 else None,
        lambda s: s.difference_update(*others),
        lambda s: s.symmetric_difference_update(others[0]),
        lambda s: s.union(*others),
        lambda s: s.intersection(*others),
        lambda s: s.difference(*others),
        lambda s: s.symmetric_difference(others[0]),
        lambda s: s.isdisjoint(others[0]),
        lambda s: s.issubset(others[0]),
        lambda s: s.issuperset(others[0]),
        lambda s: (s | other, s & other, s - other, s ^ other),
        lambda s: (other | s, other & s, other - s, other ^ s),
        lambda s: (s <= other, s < other, s >= other, s > other),
        lambda s: s.__ior__(other) is s,
        lambda s: s.__isub__(other) is s,
        lambda s: s.__ixor__(other) is s,
        lambda s: s.__iand__(other) is s if dice.random() < 0.3 else None,
        lambda s: s | [1],
        lambda s: s.add([]),
        lambda s: s.clear() if dice.random() < 0.1 else None,
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_set_does_what_a_set_does(manager: Any, way: str, seed: int) -> None:
    dice = random.Random(seed)
    ours, plain = put(manager.set([1, "a"]), way), {1, "a"}
    for _ in range(300 if way == "shared" else 100):
        k = key(dice)
        others = [[key(dice) for _ in range(dice.randrange(6))] for _ in range(dice.randrange(1, 3))]
        deed = dice.choice(set_deeds(dice, k, others, set(others[0])))
        state = dice.getstate()
        expected = outcome(deed, plain)
        dice.setstate(state)
        found = outcome(deed, ours)
        # The words of an operator name the class.
        assert found == expected or found[0] is expected[0] is TypeError
        assert ours.copy() == plain and len(ours) == len(plain)
    taken = {ours.pop() for _ in range(len(ours))}
    assert taken == plain and not ours
    with pytest.raises(KeyError, match="pop from an empty set"):
        ours.pop()


def test_sets_take_each_other(manager: Any) -> None:
    first, second = manager.set("ab"), manager.set("bc")
    assert first | second == {"a", "b", "c"} and first & second == {"b"} and first.isdisjoint(manager.set())
    first |= second
    assert sorted(first) == ["a", "b", "c"] and first >= second and not first <= second
    items = iter(first)
    next(items)
    first.clear()
    with pytest.raises(RuntimeError, match="Set changed size during iteration"):
        next(items)


def test_a_value(manager: Any, way: str) -> None:
    proxy = manager.Value("i", 5)
    if way != "shared":
        proxy.__dict__["_table"] = _tables.NOWHERE
    assert proxy.value == proxy.get() == 5 and str(proxy) == "Value('i', 5)"
    for new in (6, 2.5, "text", bytes(20_000), None, [1]):
        proxy.value = new
        assert proxy.value == new
        proxy.set((new,))
        assert proxy.get() == (new,)
    assert type(proxy._getvalue()) is standard.Value


def test_a_namespace(manager: Any) -> None:
    space = manager.Namespace(x=1, y=2)
    space.name = "Bob"
    space._own = "mine"
    del space.y
    assert (space.x, space.name, space._own) == (1, "Bob", "mine")
    assert str(space) == "Namespace(name='Bob', x=1)"
    assert not hasattr(space, "y") and not hasattr(space, "_other")
    with pytest.raises(AttributeError, match="'Namespace' object has no attribute 'y'"):
        space.y  # noqa: B018
    with pytest.raises(AttributeError, match="'Namespace' object has no attribute 'y'"):
        del space.y
    other = pickle.loads(pickle.dumps(space))
    assert other.x == 1 and not hasattr(other, "_own")
    assert vars(space._getvalue()) == {"x": 1, "name": "Bob"}
    setattr(space, "s\ud800", 3)
    assert space._table.moved
    space.x = 7
    assert other.x == 7 and getattr(other, "s\ud800") == 3 and not hasattr(other, "y")


# ---------------------------------------------------------------- proxies in values


def test_what_is_stored_lives_on(manager: Any) -> None:
    outer, kept = manager.dict(), manager.list()
    outer["inner"] = manager.dict(n=1)
    kept.append(manager.list([1]))
    kept.append({"deep": manager.dict(m=[1, 2])})
    outer["queue"] = manager.Queue()
    outer["queue"].put("item")
    outer.update(lock=manager.Lock(), other=kept)
    outer["inner"]["n"] += 1
    kept[0].append(2)
    assert outer["inner"]["n"] == 2 and outer["inner"].copy() == {"n": 2}
    assert outer["other"][0][:] == [1, 2] and kept[1]["deep"]["m"] == [1, 2]
    assert outer["queue"].get() == "item" and outer["lock"].acquire()
    assert not outer._table.moved and not kept._table.moved
    inner = outer["inner"]
    assert inner["n"] == 2 and not inner._table.moved
    assert "DictProxy" in str(outer)


def test_a_proxy_of_another_manager_lives_on(manager: Any) -> None:
    with get_context("fork").Manager() as other:
        table = manager.dict(a=1)
        table["far"] = other.dict(n=1)
        assert table["far"]["n"] == 1 and table["a"] == 1
        assert other._number_of_objects() == 1
        del table["far"]
        assert other._number_of_objects() == 0


def test_how_many_objects_there_are(manager: Any) -> None:
    before = manager._number_of_objects()
    things = [manager.dict(a=1), manager.list(), manager.set(), manager.Value("i", 1), manager.Namespace()]
    assert manager._number_of_objects() == before + 5
    assert "{'a': 1}" in manager._debug_info()
    del things
    assert manager._number_of_objects() == before


# ---------------------------------------------------------------- names


def test_all_names_of_the_standard_module_are_there() -> None:
    assert set(standard.__all__) <= {*managers.__all__}
    missing = [name for name in vars(standard) if not hasattr(managers, name)]
    assert not missing
    for name, thing in vars(standard).items():
        if isinstance(thing, type) and thing.__module__ == standard.__name__ and not name.startswith(("_", "Base")):
            assert issubclass(getattr(managers, name), thing), name


def test_types_of_a_program() -> None:
    class Own(managers.SyncManager):
        pass

    Own.register("plain", dict, managers.DictProxy)
    Own.register("auto", Counter)
    with Own(ctx=get_context("fork")) as own:
        table = own.plain(a=1)
        table["b"] = 2
        assert table.copy() == {"a": 1, "b": 2} and table._table is _tables.NOWHERE
        counter = own.auto()
        assert counter.up() == 1 and counter.up(by=5) == 6
        with pytest.raises(ZeroDivisionError):
            counter.fail()
        with pytest.raises(FileNotFoundError):
            counter.open()
        assert counter.up() == 7
        assert pickle.loads(pickle.dumps(counter)).up() == 8
    assert not hasattr(managers.SyncManager, "plain")


class Counter:
    def __init__(self) -> None:
        self.n = 0

    def up(self, by: int = 1) -> int:
        self.n += by
        return self.n

    def fail(self) -> float:
        return 1 / 0

    def open(self) -> Any:
        return open("/no/such/file")


# ---------------------------------------------------------------- conditions and locks


def test_conditions_and_locks_as_ever(manager: Any) -> None:
    lock = manager.Lock()
    condition = manager.Condition(lock)
    with condition:
        assert not lock.acquire(False)
        assert condition.wait(0.01) is False
    with pytest.raises(RuntimeError, match="un-acquired"):
        condition.notify()
    for own in (manager.Condition(), condition):
        done: list[Any] = []

        def waiter(own: Any = own, done: list[Any] = done) -> None:
            with own:
                done.append(own.wait_for(lambda: done.count("x") == 5, 10))

        threads = [threading.Thread(target=waiter) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            with own:
                done.append("x")
        for thread in threads:
            while thread.is_alive():
                with own:
                    own.notify_all()
                thread.join(0.01)
        assert done.count(True) == 3
    semaphore = manager.Semaphore(0)
    assert not semaphore.acquire(True, 0.01) and not semaphore.acquire(False)
    with pytest.raises(managers.RemoteError, match="semaphore initial value must be >= 0"):
        manager.Semaphore(-1)
