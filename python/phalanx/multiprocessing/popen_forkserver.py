"""Start a process by the fork server, which has phalanx loaded before it imports anything of the program."""

from __future__ import annotations

import os
import select
from multiprocessing import forkserver, popen_forkserver, reduction, util

from phalanx import errors
from phalanx.multiprocessing import _start
from phalanx.multiprocessing._reasons import LOST
from phalanx.multiprocessing.popen_fork import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["Popen"]

_forkserver: Any = forkserver
_util: Any = util

_DYING = 1000  # milliseconds that a process has to end once its connections are closed


class Popen(Waiting, popen_forkserver.Popen):
    """A process forked by the fork server. Its exit code comes through the server."""

    _fds: list[int]
    _number: int  # in the tree
    _by_pid = False  # that is the fork server's to reap, and may be another's by now

    def _launch(self, process_obj: Any) -> None:
        report, child_end = os.pipe()
        self._number = _start._core.child_expected()
        try:
            data = _start.pickled_start(self, process_obj, lambda: reduction.DupFd(child_end))
            _ensure_server()
            self.sentinel, data_end = _forkserver.connect_to_new_process(self._fds)
        except BaseException:
            _start._core.child_failed(self._number)
            os.close(report)
            raise
        finally:
            os.close(child_end)
        self._report = report
        _start.hold_ends(self, os.dup(data_end), self.sentinel, report)
        try:
            with open(data_end, "wb") as file:
                file.write(data)
            self.pid = _forkserver.read_signed(self.sentinel)
            _start._core.child_started(self._number, self.pid)
        except (EOFError, ConnectionError):
            _start._core.child_failed(self._number)
            if _server_failed():
                raise _server_ended(process_obj._name) from None
            raise
        except BaseException:
            _start._core.child_failed(self._number)
            raise

    def _reap(self, flag: int) -> int | None:
        if len(self._reaping) > 1:
            return None  # who comes second would read the end of the pipe
        if not _can_be_read(self.sentinel, 0 if flag == os.WNOHANG else None):
            return None
        try:
            code: int = _forkserver.read_signed(self.sentinel)
        except (OSError, EOFError):
            self.returncode, self._lost = LOST, True  # the server is gone
            return None
        return -code if code < 0 else code << 8


def _can_be_read(fd: int, milliseconds: int | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(milliseconds))


def _server_failed() -> bool:
    """Whether the fork server has ended by an exception."""
    try:
        handle = os.pidfd_open(_forkserver._forkserver._forkserver_pid)
    except (OSError, TypeError):
        return False
    try:
        ended = _can_be_read(handle, _DYING)
        # Left for the standard library to reap, which would be lost without it.
        result = os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOWAIT | os.WNOHANG) if ended else None
    except OSError:
        return False
    finally:
        os.close(handle)
    return result is not None and (result.si_code, result.si_status) == (os.CLD_EXITED, 1)


def _server_ended(name: str) -> errors.StartError:
    texts = errors.START_TEXTS
    hint = texts["hint.guard"]
    return errors.StartError(f"{texts['head.server'].format(name=name)}\nhint: {hint}", name, None, hint)


def _ensure_server() -> None:
    """Start the fork server if there is none, with phalanx in it."""
    _start._attend_forks()
    with _start._guard:
        standard = _util.spawnv_passfds
        home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        mode = _start.mode_of_standard_modules()

        def start(path: Any, arguments: Any, fds: Iterable[int]) -> Any:
            *options, command = arguments
            if options and options[-1] == "-c" and command.startswith("from multiprocessing.forkserver import main"):
                tree = _start._core.tree_fd()
                arguments = [*options, f"{_PROLOGUE.format(home=home, mode=mode, tree=tree)}; {command}"]
                fds = [*fds, tree]
            return standard(path, arguments, fds)

        _util.spawnv_passfds = start
        try:
            _forkserver.ensure_running()
        finally:
            _util.spawnv_passfds = standard


# Where phalanx is not found otherwise it is found in `home`; nothing of that is left in the server.
_PROLOGUE = (
    "import sys; import multiprocessing.forkserver; usual = set(sys.modules); sys.path.append({home!r}); "
    "from phalanx.multiprocessing._start import lend; del sys.path[-1]; lend({mode!r}, usual, {tree}); "
    "del lend, usual"
)
