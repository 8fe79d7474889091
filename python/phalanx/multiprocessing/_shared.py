"""`options(shared=...)`: an object that goes once to each worker, and is the first argument of every call.

The master pickles it once, into the table of functions of the pool. A worker loads it when the first call that wants
it comes, and keeps it; so does one that is started later. Tasks carry its number only. Where a call is made in the
master's own process (threads, or a task that submits to its own pool), it gets the object as it is.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Bound", "Unshareable", "arrive", "is_worker"]

_table: Any = None  # of the pool that this process works for
_loaded: dict[int, Any] = {}


def arrive(table: Any) -> None:
    """This process is a worker now, of the pool with this table."""
    global _table
    _table = table
    _loaded.clear()  # of a parent that was a worker itself


def is_worker() -> bool:
    """Say whether this process works for a pool."""
    return _table is not None


class Bound:
    """A function with a shared object before its arguments."""

    def __init__(self, function: Callable[..., Any], number: int, thing: Any) -> None:
        self._function = function
        self._number = number
        self._thing = thing
        # For messages.
        self.__qualname__ = getattr(function, "__qualname__", type(function).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(self._thing, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self._function, self._number)


class Unshareable:
    """Stands for an object that can no longer be pickled, for workers that are started later."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, (self._reason,)


def _refuse(reason: str) -> None:
    raise RuntimeError(f"the shared object of these options cannot be pickled again for new workers: {reason}")


def _arrived(function: Any, number: int) -> Bound:
    if number not in _loaded:
        _loaded[number] = _table.item(number)
    return Bound(function, number, _loaded[number])
