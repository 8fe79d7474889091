"""Classes that only the caller of a pool knows: they went to the worker by value, and come back by name.

cloudpickle gives each class that it sends a number, and the worker's copy bears the same one. A result or an exception
of such a class that pickle refuses is pickled once more with that number in the place of the class, so in the caller it
is of the caller's own class. What nobody has sent, a lambda or a class made in the worker, stays refused.
"""

from __future__ import annotations

import io
import pickle
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Packed", "dumps", "is_known"]


class Packed:
    """Something that has been pickled by other means."""

    __slots__ = ("_packed",)

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def __reduce__(self) -> tuple[Any, ...]:
        return (pickle.loads, (self._packed,))


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        number = _numbers().get(thing) if isinstance(thing, type) else None
        return NotImplemented if number is None else (_class, (number,))


def dumps(thing: object) -> bytes:
    """Pickle with numbers for the classes that came by value. Raises what pickle raises."""
    file = io.BytesIO()
    _Pickler(file, 5).dump(thing)
    return file.getvalue()


def is_known() -> bool:
    """Say whether any class has come by value."""
    return bool(_numbers())


def _numbers() -> Any:
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    return getattr(cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})


def _class(number: str) -> Any:
    cloudpickle: Any = sys.modules["cloudpickle.cloudpickle"]
    return cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID[number]
