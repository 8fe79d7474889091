"""Start a process in a fresh interpreter: a copy of the template, or one of its own."""

from __future__ import annotations

import os
from multiprocessing import popen_spawn_posix, resource_tracker, spawn, util

from phalanx.multiprocessing import _start, _template
from phalanx.multiprocessing.popen_fork import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Popen"]

_tracker: Any = resource_tracker
_spawn: Any = spawn
_util: Any = util


class Popen(Waiting, popen_spawn_posix.Popen):
    """A process in a fresh interpreter."""

    _fds: list[int]
    _number: int  # in the tree

    def _launch(self, process_obj: Any) -> None:
        tracker_fd = _tracker.getfd()
        self._fds.append(tracker_fd)
        self._number = _start._core.child_expected()
        pipes: list[int] = []
        try:
            sentinel, child_end = pipes[:] = os.pipe()
            data = _start.pickled_start(self, process_obj, lambda: child_end)
            child_data, parent_end = pipe = os.pipe()
            pipes += pipe
            self._fds += [child_data, child_end]
            command = _spawn.get_command_line(tracker_fd=tracker_fd, pipe_handle=child_data)
            pid = _template.start(command, self._fds, tracker_fd, child_data)
            if pid is None:
                pid = _util.spawnv_passfds(_spawn.get_executable(), command, self._fds)
        except BaseException:
            _start._core.child_failed(self._number)
            for fd in pipes:
                os.close(fd)
            raise
        self.pid = pid
        _start._core.child_started(self._number, pid)
        self.sentinel = self._report = sentinel
        _start.hold_ends(self, parent_end, sentinel)
        os.close(child_data)
        os.close(child_end)
        with open(parent_end, "wb", closefd=False) as file:
            file.write(data)
