"""The one function of `multiprocessing.resource_tracker` that differs; the rest is the standard module's."""

from __future__ import annotations

import weakref
from multiprocessing import resource_tracker as _std

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ensure_running", "register", "unregister"]

_tracker: Any = _std._resource_tracker  # not the module: there our own function may stand

ensure_running = _std.ensure_running
register = _std.register
_CLEANUP_FUNCS: Any = vars(_std)["_CLEANUP_FUNCS"]
_resource_tracker: Any = _tracker

segments: weakref.WeakSet[Any] = weakref.WeakSet()
"""The `SharedMemory` objects of this process."""


def unregister(name: str, rtype: str) -> None:
    """`resource_tracker.unregister`, which says nothing where a program undoes what an attacher does no more.

    Programs for Python up to 3.12 call it after they attached to a segment, as that was tracked. The tracker would
    complain about a name that it does not know, or forget the entry of the segment's maker.
    """
    ways = {segment._track for segment in segments.copy() if segment._name == name}
    if rtype != "shared_memory" or None not in ways or True in ways:
        _tracker.unregister(name, rtype)
