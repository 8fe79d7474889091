"""The dicts, lists, sets and values of managers: records in shared memory, and a server for what cannot be there.

```text
proxy ── DictFace ──┬── _table: encode, lock, change, unlock                in the caller's process, under 1 us
                    └── Elsewhere ── _elsewhere ── the server: Dict ──┬── the same table
                                                                      └── a real dict, once the content has moved
```

Both a proxy and what it stands for in the server have a face: methods over `_table`, which ask `_elsewhere` wherever
the table refuses. It refuses keys that cannot lie there, values that may have proxies in them, and everything once the
server has taken the content out. Whoever is in another tree of processes has `NOWHERE` for a table, so the server does
all for him.
"""

from __future__ import annotations

import operator

from phalanx._core import Elsewhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

_TRIES = 50
"""So often something that others keep changing is tried here, before it is an affair of the server."""


class _Nowhere:
    """Stands for a table that cannot be reached from here."""

    def __getattr__(self, name: str) -> Any:
        raise Elsewhere


NOWHERE: Any = _Nowhere()


class _Face:
    """What all faces have."""

    _table: Any
    _elsewhere: Callable[..., Any]

    def __len__(self) -> int:
        try:
            count: int = self._table.count()
        except Elsewhere:
            count = self._elsewhere("__len__")
        return count

    def clear(self) -> Any:
        """Remove everything."""
        try:
            return self._table.clear()
        except Elsewhere:
            return self._elsewhere("clear")


def _going(face: _Face, keys: list[Any], what: str) -> Iterator[Any]:
    for key in keys:
        if len(face) != len(keys):
            raise RuntimeError(f"{what} changed size during iteration")
        yield key


class DictFace(_Face):
    """The methods of a dict. Each is one step for everybody else, and `update` unless its process dies in it."""

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._table.item(key)
        except Elsewhere:
            return self._elsewhere("__getitem__", (key,))

    def __setitem__(self, key: Any, value: Any) -> None:
        try:
            self._table.set(key, value)
        except Elsewhere:
            self._elsewhere("__setitem__", (key, value))

    def __delitem__(self, key: Any) -> None:
        try:
            self._table.delete(key)
        except Elsewhere:
            self._elsewhere("__delitem__", (key,))

    def __contains__(self, key: Any) -> bool:
        try:
            there: bool = self._table.contains(key)
        except Elsewhere:
            there = self._elsewhere("__contains__", (key,))
        return there

    def __iter__(self) -> Iterator[Any]:
        """Go through the keys that there are now. Raises RuntimeError once there are more or fewer."""
        return _going(self, self.keys(), "dictionary")

    def __reversed__(self) -> Iterator[Any]:
        return _going(self, self.keys()[::-1], "dictionary")

    def keys(self) -> list[Any]:
        """A list of the keys."""
        try:
            keys: list[Any] = self._table.keys()
        except Elsewhere:
            keys = list(self._elsewhere("keys"))
        return keys

    def values(self) -> list[Any]:
        """A list of the values."""
        try:
            values: list[Any] = self._table.values()
        except Elsewhere:
            values = list(self._elsewhere("values"))
        return values

    def items(self) -> list[tuple[Any, Any]]:
        """A list of keys with their values."""
        try:
            items: list[tuple[Any, Any]] = self._table.items()
        except Elsewhere:
            items = list(self._elsewhere("items"))
        return items

    def copy(self) -> dict[Any, Any]:
        """A plain dict with the same content."""
        try:
            content: dict[Any, Any] = self._table.content()
        except Elsewhere:
            content = self._elsewhere("copy")
        return content

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or `default`."""
        try:
            return self._table.get(key, default)
        except Elsewhere:
            return self._elsewhere("get", (key, default))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of a key, which is set to `default` if it was not there."""
        try:
            return self._table.set_default(key, default)
        except Elsewhere:
            return self._elsewhere("setdefault", (key, default))

    def pop(self, key: Any, *default: Any) -> Any:
        """Remove a key and return its value; without it return `default`, or raise KeyError."""
        try:
            return self._table.take(key, *default)
        except Elsewhere:
            return self._elsewhere("pop", (key, *default))

    def popitem(self) -> tuple[Any, Any]:
        """Remove the key that came last, and return it with its value. Raises KeyError if there is none."""
        try:
            taken: tuple[Any, Any] | None = self._table.take_last()
        except Elsewhere:
            taken = self._elsewhere("popitem")
        if taken is None:
            raise KeyError("popitem(): dictionary is empty")
        return taken

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Set all keys that `other`, a mapping or pairs, and the keywords have."""
        new: dict[Any, Any] = {}
        new.update(other.copy() if isinstance(other, DictFace) else other, **more)
        try:
            self._table.set_all(list(new.items()))
        except Elsewhere:
            self._elsewhere("update", (new,))

    def __or__(self, other: Any) -> Any:
        other = other.copy() if isinstance(other, DictFace) else other
        return self.copy() | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return other | self.copy() if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def _content(self) -> Any:
        return self.copy()


class ListFace(_Face):
    """The methods of a list. Each is one step for everybody else."""

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._table.at(index)
        except Elsewhere:
            return self._elsewhere("__getitem__", (index,))

    def __setitem__(self, index: Any, value: Any) -> None:
        value = list(value) if isinstance(index, slice) else value
        try:
            self._table.splice(index, value)
        except Elsewhere:
            self._elsewhere("__setitem__", (index, value))

    def __delitem__(self, index: Any) -> None:
        try:
            self._table.splice(index)
        except Elsewhere:
            self._elsewhere("__delitem__", (index,))

    def append(self, value: Any) -> None:
        """Add an item at the end."""
        try:
            self._table.append(value)
        except Elsewhere:
            self._elsewhere("append", (value,))

    def extend(self, values: Iterable[Any]) -> None:
        """Add all items of an iterable at the end."""
        values = list(values)
        try:
            self._table.extend(values)
        except Elsewhere:
            self._elsewhere("extend", (values,))

    def insert(self, index: Any, value: Any) -> None:
        """Add an item before the one at `index`."""
        index = operator.index(index)
        try:
            self._table.splice(slice(index, index), [value])
        except Elsewhere:
            self._elsewhere("insert", (index, value))

    def pop(self, index: Any = -1) -> Any:
        """Remove an item and return it. Raises IndexError if it is not there."""
        try:
            return self._table.pop(index)
        except Elsewhere:
            return self._elsewhere("pop", (index,))

    def remove(self, value: Any) -> None:
        """Remove the first item that equals `value`. Raises ValueError if there is none."""
        try:
            for _ in range(_TRIES):
                version, values = self._table.versioned()
                if self._table.remove_at(version, values.index(value)):
                    return
        except Elsewhere:
            pass
        except ValueError:
            raise ValueError("list.remove(x): x not in list") from None
        self._elsewhere("remove", (value,))

    def reverse(self) -> None:
        """Turn the list round."""
        try:
            self._table.reverse()
        except Elsewhere:
            self._elsewhere("reverse")

    def sort(self, /, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort the list. `key` is called in this process."""
        try:
            for _ in range(_TRIES):
                version, values = self._table.versioned()
                marks = values if key is None else [key(value) for value in values]
                order = sorted(range(len(marks)), key=marks.__getitem__, reverse=reverse)
                if self._table.permute(version, order):
                    return
        except Elsewhere:
            pass
        self._elsewhere("sort", (), {"key": key, "reverse": reverse})

    def copy(self) -> list[Any]:
        """A plain list with the same items."""
        try:
            values: list[Any] = self._table.values()
        except Elsewhere:
            values = self._elsewhere("__getitem__", (slice(None),))
        return values

    def count(self, value: Any) -> int:
        """How many items equal `value`."""
        return self.copy().count(value)

    def index(self, value: Any, *bounds: Any) -> int:
        """The place of the first item that equals `value`. Raises ValueError if there is none."""
        return self.copy().index(value, *bounds)

    def __contains__(self, value: Any) -> bool:
        return value in self.copy()

    def __reversed__(self) -> Any:
        return reversed(self.copy())

    def __add__(self, other: Any) -> Any:
        other = other.copy() if isinstance(other, ListFace) else other
        return self.copy() + other

    def __mul__(self, times: Any) -> Any:
        return self.copy() * times

    __rmul__ = __mul__

    def __iadd__(self, values: Any) -> Any:
        self.extend(values)
        return self

    def __imul__(self, times: Any) -> Any:
        times = operator.index(times)
        try:
            self._table.repeat(times)
        except Elsewhere:
            self._elsewhere("__imul__", (times,))
        return self

    def _content(self) -> Any:
        return self.copy()


def _plain(other: Any) -> Any:
    return other.copy() if isinstance(other, SetFace) else other


class SetFace(_Face):
    """The methods of a set; items come out in the order in which they came. Each is one step for everybody else."""

    def __contains__(self, item: Any) -> bool:
        try:
            there: bool = self._table.contains(item)
        except Elsewhere:
            there = self._elsewhere("__contains__", (item,))
        return there

    def __iter__(self) -> Iterator[Any]:
        """Go through the items that there are now. Raises RuntimeError once there are more or fewer."""
        try:
            items = self._table.keys()
        except Elsewhere:
            items = list(self._elsewhere("copy"))
        return _going(self, items, "Set")

    def add(self, item: Any) -> None:
        """Add an item, unless it is there."""
        try:
            self._table.set_default(item, None)
        except Elsewhere:
            self._elsewhere("add", (item,))

    def discard(self, item: Any) -> None:
        """Remove an item, if it is there."""
        try:
            self._table.discard(item)
        except Elsewhere:
            self._elsewhere("discard", (item,))

    def remove(self, item: Any) -> None:
        """Remove an item. Raises KeyError if it is not there."""
        try:
            self._table.delete(item)
        except Elsewhere:
            self._elsewhere("remove", (item,))

    def pop(self) -> Any:
        """Remove some item and return it. Raises KeyError if there is none."""
        try:
            taken = self._table.take_last()
        except Elsewhere:
            return self._elsewhere("pop")
        if taken is None:
            raise KeyError("pop from an empty set")
        return taken[0]

    def copy(self) -> set[Any]:
        """A plain set with the same items."""
        try:
            return set(self._table.keys())
        except Elsewhere:
            items: set[Any] = self._elsewhere("copy")
            return items

    def update(self, *others: Iterable[Any]) -> None:
        """Add the items of all the others."""
        new = dict.fromkeys(item for other in others for item in _plain(other))
        try:
            self._table.set_all(list(new.items()))
        except Elsewhere:
            self._elsewhere("update", (list(new),))

    def _change(self, name: str, others: tuple[Any, ...]) -> None:
        others = tuple(set(_plain(other)) for other in others)
        try:
            for _ in range(_TRIES):
                version, items = self._table.versioned()
                new = set(items)
                getattr(new, name)(*others)
                kept = [item for item in items if item in new]
                # In their order; what is new has none.
                entries = [(item, None) for item in (*kept, *new.difference(kept))]
                if self._table.replace_all(version, entries):
                    return
        except Elsewhere:
            pass
        self._elsewhere(name, others)

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Keep only what all the others have too."""
        self._change("intersection_update", others)

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Remove what any of the others has."""
        self._change("difference_update", others)

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        """Remove what the other has too, and add the rest of it."""
        self._change("symmetric_difference_update", (other,))

    def union(self, *others: Iterable[Any]) -> set[Any]:
        """A plain set with the items of this one and all the others."""
        return self.copy().union(*map(_plain, others))

    def intersection(self, *others: Iterable[Any]) -> set[Any]:
        """A plain set with the items that all have."""
        return self.copy().intersection(*map(_plain, others))

    def difference(self, *others: Iterable[Any]) -> set[Any]:
        """A plain set with the items that none of the others has."""
        return self.copy().difference(*map(_plain, others))

    def symmetric_difference(self, other: Iterable[Any]) -> set[Any]:
        """A plain set with the items that only one of the two has."""
        return self.copy().symmetric_difference(_plain(other))

    def isdisjoint(self, other: Iterable[Any]) -> bool:
        """Whether the two have nothing in common."""
        return self.copy().isdisjoint(_plain(other))

    def issubset(self, other: Iterable[Any]) -> bool:
        """Whether the other has everything that this one has."""
        return self.copy().issubset(_plain(other))

    def issuperset(self, other: Iterable[Any]) -> bool:
        """Whether this one has everything that the other has."""
        return self.copy().issuperset(_plain(other))

    def _content(self) -> Any:
        return self.copy()


def _two_sets(name: str) -> Callable[[Any, Any], Any]:
    method = getattr(set, name)

    def operation(self: SetFace, other: Any) -> Any:
        return method(self.copy(), _plain(other))

    operation.__name__ = name
    operation.__qualname__ = f"SetFace.{name}"
    return operation


def _change_by(name: str, method: str) -> Callable[[Any, Any], Any]:
    def operation(self: SetFace, other: Any) -> Any:
        if not isinstance(other, (set, frozenset, SetFace)):
            return NotImplemented
        getattr(self, method)(other)
        return self

    operation.__name__ = name
    operation.__qualname__ = f"SetFace.{name}"
    return operation


_READS = ("and", "or", "sub", "xor", "rand", "ror", "rsub", "rxor", "le", "lt", "ge", "gt")
_CHANGES = {
    "and": "intersection_update",
    "or": "update",
    "sub": "difference_update",
    "xor": "symmetric_difference_update",
}
for _name in _READS:
    setattr(SetFace, f"__{_name}__", _two_sets(f"__{_name}__"))
for _name, _method in _CHANGES.items():
    setattr(SetFace, f"__i{_name}__", _change_by(f"__i{_name}__", _method))


class ValueFace:
    """One value."""

    _table: Any
    _elsewhere: Callable[..., Any]

    def get(self) -> Any:
        """The value."""
        try:
            return self._table.at(0)
        except Elsewhere:
            return self._elsewhere("get")

    def set(self, value: Any) -> None:
        """Replace the value."""
        try:
            self._table.put(0, value)
        except Elsewhere:
            self._elsewhere("set", (value,))

    value = property(get, set, doc="The value.")


class NamespaceFace:
    """Attributes. Those whose names begin with an underscore are the object's own, and not shared."""

    _table: Any
    _elsewhere: Callable[..., Any]

    def _get(self, name: str) -> Any:
        try:
            return self._table.item(name)
        except Elsewhere:
            return self._elsewhere("__getattribute__", (name,))
        except KeyError:
            # As the server words it.
            error = AttributeError(f"'Namespace' object has no attribute {name!r}", name=name, obj=self)
        raise error

    def _set(self, name: str, value: Any) -> None:
        try:
            self._table.set(name, value)
        except Elsewhere:
            self._elsewhere("__setattr__", (name, value))

    def _delete(self, name: str) -> None:
        try:
            self._table.delete(name)
            return
        except Elsewhere:
            self._elsewhere("__delattr__", (name,))
            return
        except KeyError:
            error = AttributeError(f"'Namespace' object has no attribute {name!r}", name=name, obj=self)
        raise error
