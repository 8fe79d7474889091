"""Start a process by the fork server, which has phalanx loaded before it imports anything of the program."""

from __future__ import annotations

import io
import os
from multiprocessing import context, forkserver, popen_forkserver, reduction, util

from phalanx import errors
from phalanx.multiprocessing import _start
from phalanx.multiprocessing.popen_fork import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["Popen"]

_context: Any = context
_forkserver: Any = forkserver
_util: Any = util


class Popen(Waiting, popen_forkserver.Popen):  # type: ignore[misc]
    """A process forked by the fork server. Its exit code comes through the server."""

    def _launch(self, process_obj: Any) -> None:
        data = io.BytesIO()
        _context.set_spawning_popen(self)
        try:
            reduction.dump(_start.preparation_data(process_obj._name), data)
            reduction.dump(process_obj, data)
        finally:
            _context.set_spawning_popen(None)
        _ensure_server()
        self.sentinel, data_end = _forkserver.connect_to_new_process(self._fds)
        _start.hold_ends(self, self.sentinel, os.dup(data_end))
        try:
            with open(data_end, "wb") as file:
                file.write(data.getbuffer())
            self.pid = _forkserver.read_signed(self.sentinel)
        except (EOFError, BrokenPipeError, ConnectionError):
            if _forkserver._forkserver._forkserver_pid is None:
                raise
            raise _server_ended(process_obj._name) from None

    def _reap(self, flag: int) -> int | None:
        if len(self._reaping) > 1:
            return None  # who comes second would read the end of the pipe
        code = popen_forkserver.Popen.poll(self, flag)  # type: ignore[arg-type]
        if code is None:
            return None
        self._lost = code == 255
        return -code if code < 0 else code << 8


def _server_ended(name: str) -> errors.StartError:
    texts = errors.START_TEXTS
    hint = texts["hint.guard"]
    return errors.StartError(f"{texts['head.server'].format(name=name)}\nhint: {hint}", name, None, hint)


def _ensure_server() -> None:
    """Start the fork server if there is none, with phalanx in it."""
    with _start._guard:
        standard = _util.spawnv_passfds
        home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        mode = _start.mode_of_standard_modules()

        def start(path: Any, arguments: Any, fds: Iterable[int]) -> Any:
            *options, command = arguments
            if options and options[-1] == "-c" and command.startswith("from multiprocessing.forkserver import main"):
                arguments = [*options, f"{_PROLOGUE.format(home=home, mode=mode)}; {command}"]
            return standard(path, arguments, fds)

        _util.spawnv_passfds = start
        try:
            _forkserver.ensure_running()
        finally:
            _util.spawnv_passfds = standard


# Where phalanx is not found otherwise it is found in `home`; nothing of that is left in the server.
_PROLOGUE = (
    "import sys; import multiprocessing.forkserver; usual = set(sys.modules); sys.path.append({home!r}); "
    "from phalanx.multiprocessing._start import lend; del sys.path[-1]; lend({mode!r}, usual); del lend, usual"
)
