"""Where in an object the part lies that cannot be pickled."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["explain"]

_DEEP = 20
_WIDE = 200


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    if type(thing) in (list, tuple):
        for at, part in enumerate(thing[:_WIDE]):
            yield f"[{at}]", part
    elif type(thing) is dict:
        for key, part in list(thing.items())[:_WIDE]:
            yield f"[{key!r}]" if type(key) in (str, int) else f"[<{type(key).__name__}>]", part
    elif isinstance(getattr(thing, "__dict__", None), dict) and _is_plain(type(thing)):
        for name, part in list(vars(thing).items())[:_WIDE]:
            yield f".{name}", part


def _is_plain(kind: type) -> bool:
    # What says itself how it is pickled may refuse for reasons of its own, and its parts may do things when pickled.
    return all(getattr(kind, name) is getattr(object, name) for name in ("__reduce_ex__", "__reduce__"))


def _is_refused(thing: Any) -> bool:
    try:
        ForkingPickler.dumps(thing, 5)
    except Exception:
        return True
    return False


def _path(thing: Any) -> tuple[str, Any]:
    path = ""
    for _ in range(_DEEP):
        found = next(((name, part) for name, part in _parts(thing) if _is_refused(part)), None)
        if found is None:
            break
        path += found[0]
        thing = found[1]
    return path, thing


def explain(error: BaseException, thing: Any, what: str) -> None:
    """Note on `error`, which pickling has raised, which part of `thing` it speaks of. `what` says what `thing` is."""
    try:
        path, culprit = _path(thing)
    except Exception:  # recursion, or code of the program
        path, culprit = "", thing
    where = f": its part {path.removeprefix('.')} is a {type(culprit).__qualname__}" if path else ""
    error.add_note(f"{what} cannot be pickled{where}")
