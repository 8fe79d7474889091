"""Processes in fresh interpreters that do not import the program's main module.

A program without a `main` guard can have them too. Whatever is defined in the main module goes to them by value.
"""

from __future__ import annotations

from phalanx.multiprocessing.context import SpawnContext, SpawnProcess

__all__ = ["BareContext", "BareProcess"]


class BareProcess(SpawnProcess):
    """A process that `spawn` starts, without the main module."""

    _without_main = True


class BareContext(SpawnContext):
    """Makes such processes."""

    _by_value = True

    Process = BareProcess
