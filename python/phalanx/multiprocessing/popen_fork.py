"""Start a process by `fork`, and wait for it at the door."""

from __future__ import annotations

import os
import weakref
from _thread import get_ident
from multiprocessing import popen_fork
from time import sleep

from phalanx import _core as _native
from phalanx import _settings, errors
from phalanx.multiprocessing import _reasons

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Popen"]

_core: Any = _native

_ANY_ERROR = 1  # the exit code after an exception
_MOMENT = 0.0005  # seconds: what a thread takes at most from reaping to telling


class Waiting:
    """What the three ways to start a process have in common: how to wait, to reap and to tell how it ended."""

    pid: int
    sentinel: int
    returncode: int | None
    finalizer: Any
    _by_pid = True  # whether it can be waited for by its pid
    _sent: int | None = None  # the signal that was sent last
    _lost = False  # `returncode` is only a stand-in
    _report = -1  # where a child that could not begin writes why
    _failure: tuple[str, str] | None = None
    _told = False  # `join` has raised the failure

    def __init__(self, process_obj: Any) -> None:
        """Start the process. Raises OSError where the system cannot, and ValueError for a setting it does not know."""
        if not _core.orphan_rule_is_known():
            _settings.orphan_rule()  # a wrong value is told here, not in each child
        self._process = weakref.ref(process_obj)
        self._owner = os.getpid()
        self._reaping: list[int] = []  # the threads that are at it; lists change in one step
        super().__init__(process_obj)  # type: ignore[call-arg]

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end of the process, at most `timeout` seconds. Returns its exit code, or None if it still runs.

        Raises `phalanx.DeadlockError` where it can never end because it waits for this process.
        """
        if self.returncode is not None:
            return self.returncode
        if timeout is not None and timeout <= 0:
            return self.poll()
        if not _core.wait_for_exit(self.pid, self.sentinel, timeout, self._process(), self._by_pid):
            return None
        return self.poll(0)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code of the process, or None if it still runs. Without `os.WNOHANG` in `flag`, wait for its end."""
        if self.returncode is None:
            me = get_ident()
            below = me in self._reaping  # a signal handler came in between
            self._reaping.append(me)
            try:
                status = self._reap(flag)
                if status is not None:
                    self.returncode = os.waitstatus_to_exitcode(status)
                    _core.process_reaped(self.pid, status)
            finally:
                self._reaping.remove(me)
            while self.returncode is None and flag == 0 and self._reaping and not below:
                sleep(_MOMENT)  # another thread has it and is about to tell
        return self.returncode

    def _reap(self, flag: int) -> int | None:
        """The wait status of the process, once."""
        try:
            pid, status = os.waitpid(self.pid, flag)
        except ChildProcessError:
            # Reaped. Another thread, or this one below a signal handler, may be about to note it; otherwise it was
            # somebody who does not know us, and waiting on would be waiting for ever.
            if len(self._reaping) == 1 and self.returncode is None and self._owner == os.getpid():
                self.returncode = _reasons.LOST
                self._lost = True
            return None
        except OSError:
            return None
        return status if pid == self.pid else None

    def exit_reason(self) -> str | None:
        """How the process ended, in words, or None if it still runs."""
        code = self.poll()
        if code is None:
            return None
        failure = self.failure()
        if failure is not None:
            return errors.START_TEXTS["reason.unguarded"].format(place=failure[0])
        return _reasons.reason(code, sent=self._sent, lost=self._lost)

    def failure(self) -> tuple[str, str] | None:
        """Why the process could not begin: the place in the program and the line there. None if it could."""
        if self._report >= 0 and self.returncode == _ANY_ERROR and self.finalizer.still_active():
            os.set_blocking(self._report, False)  # a grandchild may hold the other end open
            try:
                words = os.read(self._report, 4096)
            except BlockingIOError:
                words = b""
            self._report = -1
            if words:
                place, _, line = words.decode(errors="replace").partition("\n")
                self._failure = place, line
        return self._failure

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            self._sent = sig
        super()._send_signal(sig)  # type: ignore[misc]


class Popen(Waiting, popen_fork.Popen):
    """A process started by `fork`."""

    def _launch(self, process_obj: Any) -> None:
        try:
            super()._launch(process_obj)  # type: ignore[misc]
        except BaseException:
            _core.fork_done(self.__dict__.get("pid", 0), -1)
            raise
        # Every page that is written to after a fork is copied, here and there: little Python from here on.
        finalizer = self.finalizer
        finalizer._callback = _core.close_ends
        _core.fork_done(self.pid, finalizer._args[1])
