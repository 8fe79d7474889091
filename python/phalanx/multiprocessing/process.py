"""`Process`, the standard one: its end is waited for at the door, told in words, and known to its children.

The functions below serve as methods of the classes in `context` and, once the standard package is adopted, of the
standard `BaseProcess`.
"""

from __future__ import annotations

import sys
from multiprocessing import context as _std_context
from multiprocessing import process as _std_process
from multiprocessing.process import BaseProcess, active_children, current_process, parent_process

from phalanx import _core as _native
from phalanx.multiprocessing import _reasons, _start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

_core: Any = _native
_context: Any = _std_context
_process: Any = _std_process

_std_bootstrap = _process.BaseProcess._bootstrap
_std_join = _process.BaseProcess.join

# They look after processes on somebody's behalf, and tell in their own way what became of them.
_KEEPERS = ("multiprocessing.", "concurrent.futures.", "phalanx.")


def fork_popen(process_obj: Any) -> Any:
    """Start a process by `fork`."""
    from phalanx.multiprocessing.popen_fork import Popen

    return Popen(process_obj)


def spawn_popen(process_obj: Any) -> Any:
    """Start a process in a fresh interpreter."""
    from phalanx.multiprocessing.popen_spawn_posix import Popen

    return Popen(process_obj)


def forkserver_popen(process_obj: Any) -> Any:
    """Start a process by the fork server."""
    from phalanx.multiprocessing.popen_forkserver import Popen

    return Popen(process_obj)


class Ending:
    """What processes of phalanx have beyond the standard ones."""

    outlive_parent: bool = False
    """Set it before `start()` to let the process go on when its parent is gone.

    Without it, and without `PHALANX_ORPHANS=keep` in the environment, the process has a second to notice that its
    parent is gone (`parent_process().sentinel`); then it gets SIGTERM, and 0.8 s later SIGKILL.
    """

    def _bootstrap(self, parent_sentinel: int | None = None) -> Any:
        # From here on the child is the program's. In a fork each name looked up here costs a page that is copied.
        if _start.last_words is not None:
            _start.last_words.end()
        alone = parent_sentinel is None or self.outlive_parent
        _core.process_begins(self._name, -1 if alone else parent_sentinel)  # type: ignore[attr-defined]
        return _std_bootstrap(self, parent_sentinel)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process has ended, or until `timeout` seconds have passed.

        Returns None in both cases, so ask `exitcode` after a join with a time limit. Joining a process that has ended
        returns at once.

        Raises `phalanx.DeadlockError` if the process can never end because it waits for this one, and
        `phalanx.StartError`, once, if it ended before it could begin because the main module has no guard.
        """
        _std_join(self, timeout)
        popen: Any = self._popen  # type: ignore[attr-defined]
        if getattr(popen, "returncode", None) != 1:  # after an exception
            return
        failure = getattr(popen, "failure", None)  # not every kind of process is ours
        if failure is None or popen._told or (words := failure()) is None:
            return
        if not _caller().startswith(_KEEPERS):
            popen._told = True
            raise _start.unguarded(self.name, *words)  # type: ignore[attr-defined]

    @property
    def exit_reason(self) -> str | None:
        """How the process ended, in words, or None as long as it runs. Raises ValueError after `close()`."""
        code: int | None = self.exitcode  # type: ignore[attr-defined]
        popen: Any = self._popen  # type: ignore[attr-defined]
        if code is None:
            return None
        ours = getattr(popen, "exit_reason", None)
        return _reasons.reason(code) if ours is None else ours()


def hooks() -> list[tuple[Any, str, Any]]:
    """What changes in the standard classes: the owner, a name, and what it becomes."""
    names = ("outlive_parent", "_bootstrap", "join", "exit_reason")
    return [
        *((_process.BaseProcess, name, vars(Ending)[name]) for name in names),
        (_context.ForkProcess, "_Popen", staticmethod(fork_popen)),
        (_context.SpawnProcess, "_Popen", staticmethod(spawn_popen)),
        (_context.ForkServerProcess, "_Popen", staticmethod(forkserver_popen)),
    ]


def _caller() -> str:
    """The module that called `join`."""
    return str(sys._getframe(2).f_globals.get("__name__", ""))
