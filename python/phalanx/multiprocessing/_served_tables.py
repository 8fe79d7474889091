"""What the server of a manager has for each dict, list, set, value and namespace: a table in shared memory.

When something comes that cannot lie there, it takes the content out into a plain object, which then does everything. It
is never taken back.
"""

from __future__ import annotations

import multiprocessing.managers as _std_managers
import pickle
from threading import Lock

from phalanx import _core
from phalanx._core import Elsewhere
from phalanx.multiprocessing._tables import DictFace, ListFace, NamespaceFace, SetFace, ValueFace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["Dict", "List", "Namespace", "Referent", "Set", "Value"]

_std: Any = _std_managers
_BaseProxy = _std.BaseProxy  # the name may stand for ours later


class _Undecoded:
    """A value that this server cannot load; whoever gets it can try."""

    def __init__(self, kind: int, data: bytes) -> None:
        self.record = kind, data

    def __reduce__(self) -> tuple[Any, ...]:
        return decode, self.record


def decode(kind: int, data: bytes) -> Any:
    """The object of an encoded value."""
    return _core.SharedTable(False).decode(kind, data)


class _Void:
    def write(self, _data: Any) -> None:
        """Forget what is written."""


class _ProxyFinder(pickle.Pickler):
    """Finds the proxies in an object."""

    def __init__(self) -> None:
        super().__init__(_Void())
        self.found: list[Any] = []

    def reducer_override(self, obj: Any) -> Any:
        """Note a proxy, and go on as usual."""
        if isinstance(obj, _BaseProxy):
            self.found.append(obj)
        return NotImplemented


def _is_ours(arguments: object) -> bool:
    """Are there proxies in it, and only of objects that live in this server? They keep those alive for ever."""
    finder = _ProxyFinder()
    try:
        finder.dump(arguments)
    except Exception:
        return False
    return bool(finder.found) and all(proxy._owned_by_manager for proxy in finder.found)


class _Open:
    """A face over the table of a referent that takes proxies."""

    def __init__(self, referent: Referent) -> None:
        self._table = referent._table.opened()
        self._referent = referent

    def _elsewhere(self, name: str, args: tuple[Any, ...] = (), kwds: dict[str, Any] | None = None) -> Any:
        return getattr(self._referent._moved(), name)(*args, **kwds or {})


class Referent:
    """What a server has for a proxy: a table, and a plain object once something has come that cannot lie there."""

    _keyed = True
    _opened: type[Any]
    _names: type[Any] = object

    def __init__(self) -> None:
        self._table: Any = _core.SharedTable(self._keyed)
        self._open = self._opened(self)
        self._here: Any = None
        self._lock = Lock()

    def _elsewhere(self, name: str, args: tuple[Any, ...] = (), kwds: dict[str, Any] | None = None) -> Any:
        if self._here is None and _is_ours((args, kwds)):
            return getattr(self._open, name)(*args, **kwds or {})
        return getattr(self._moved(), name)(*args, **kwds or {})

    def _moved(self) -> Any:
        with self._lock:
            if self._here is None:
                self._here = self._plain(self._taken_out())
            return self._here

    def _taken_out(self) -> list[tuple[Any, Any]]:
        entries = []
        for key, (kind, data) in self._table.move_out() or ():
            try:
                value = self._table.decode(kind, data)
            except Exception:
                value = _Undecoded(kind, data)
            entries.append((key, value))
        return entries

    def _plain(self, entries: list[tuple[Any, Any]]) -> Any:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        # Methods of later Pythons, which the faces do not know.
        if (name.startswith("_") and not name.endswith("__")) or not hasattr(self._names, name):
            raise AttributeError(f"{self._names.__name__!r} object has no attribute {name!r}")
        return getattr(self._moved(), name)

    def _content(self) -> Any:
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        # Operators like `*=` return it, and a copy is what a plain object would arrive as.
        return _itself, (self._content(),)

    def __repr__(self) -> str:
        return repr(self._content())


def _itself(content: Any) -> Any:
    return content


class Dict(DictFace, Referent):
    """A dict in a server."""

    _names = dict
    _opened = type("_Opened", (_Open, DictFace), {})

    def __init__(self, /, *args: Any, **kwds: Any) -> None:
        super().__init__()
        self.update(dict(*args, **kwds))

    def _plain(self, entries: list[tuple[Any, Any]]) -> Any:
        return dict(entries)

    __repr__ = Referent.__repr__


class List(ListFace, Referent):
    """A list in a server."""

    _keyed = False
    _names = list
    _opened = type("_Opened", (_Open, ListFace), {})

    def __init__(self, values: Iterable[Any] = (), /) -> None:
        super().__init__()
        self.extend(values)

    def _plain(self, entries: list[tuple[Any, Any]]) -> Any:
        return [value for _, value in entries]


class Set(SetFace, Referent):
    """A set in a server."""

    _names = set
    _opened = type("_Opened", (_Open, SetFace), {})

    def __init__(self, items: Iterable[Any] = (), /) -> None:
        super().__init__()
        self.update(items)

    def _plain(self, entries: list[tuple[Any, Any]]) -> Any:
        return {item for item, _ in entries}


class Value(ValueFace, Referent):
    """A value in a server."""

    _keyed = False
    _opened = type("_Opened", (_Open, ValueFace), {})

    def __init__(self, typecode: Any, value: Any, lock: bool = True) -> None:
        super().__init__()
        self._typecode = typecode
        try:
            self._table.append(value)
        except Elsewhere:
            if _is_ours(value):
                self._open._table.append(value)
            else:
                self._moved().set(value)

    def _plain(self, entries: list[tuple[Any, Any]]) -> Any:
        return _std.Value(self._typecode, entries[0][1] if entries else None)

    def _content(self) -> Any:
        return _std.Value(self._typecode, self.get())


class _NamespaceInServer(NamespaceFace):
    """The three methods that a proxy may call."""

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name) if name[:1] == "_" else self._get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name[:1] == "_":
            object.__setattr__(self, name, value)
        else:
            self._set(name, value)

    def __delattr__(self, name: str) -> None:
        if name[:1] == "_":
            object.__delattr__(self, name)
        else:
            self._delete(name)


class Namespace(_NamespaceInServer, Referent):
    """A namespace in a server."""

    _opened = type("_Opened", (_NamespaceInServer, _Open), {})

    def __init__(self, /, **kwds: Any) -> None:
        super().__init__()
        for name, value in kwds.items():
            self._set(name, value)

    def _plain(self, entries: list[tuple[Any, Any]]) -> Any:
        return _std.Namespace(**dict(entries))

    def _content(self) -> Any:
        try:
            return _std.Namespace(**self._table.content())
        except Elsewhere:
            return self._moved()
