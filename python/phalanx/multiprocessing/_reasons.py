"""How a process ended, in words: what `Process.exit_reason` says."""

from __future__ import annotations

import signal

__all__ = ["LOST", "reason"]

LOST = 255
"""The exit code of a process whose own one nobody can learn any more, as the standard library has it."""

_NORMAL = "ended normally"
_CODE = "exited with code {code}"
_EXCEPTION = "exited with code 1; most often an exception, whose traceback went to standard error"
_LOST = "ended, and its exit code was lost: somebody else took it, or the fork server is gone"

# What we did ourselves needs no guess.
_OURS = {signal.SIGTERM: "ended by terminate() (SIGTERM)", signal.SIGKILL: "killed by kill() (SIGKILL)"}

_SIGNALS = {
    "SIGABRT": "crashed by SIGABRT: it ended itself after a fatal error, most often a failed check in C code",
    "SIGALRM": "ended by SIGALRM: a timer of its own ran out, and it had no handler",
    "SIGBUS": "crashed by SIGBUS: it used memory that has nothing behind it, most often a mapped file that shrank",
    "SIGFPE": "crashed by SIGFPE: an arithmetic error in C code, such as an integer division by zero",
    "SIGHUP": "ended by SIGHUP: its terminal went away",
    "SIGILL": "crashed by SIGILL: an instruction that this processor does not have, most often a wheel for another one",
    "SIGINT": "interrupted by SIGINT, most often Ctrl-C",
    "SIGKILL": "killed by SIGKILL; most often the kernel running out of memory",
    "SIGPIPE": "ended by SIGPIPE: it wrote to a pipe that nobody reads",
    "SIGQUIT": "ended by SIGQUIT, most often Ctrl-\\",
    "SIGSEGV": "crashed by SIGSEGV: it used memory that is not its own, most often a defect of an extension module",
    "SIGSYS": "killed by SIGSYS: a system call that its sandbox forbids",
    "SIGTERM": "ended by SIGTERM",
    "SIGTRAP": "ended by SIGTRAP, a trap for a debugger that was not there",
    "SIGXCPU": "killed by SIGXCPU: it used up its processor time (RLIMIT_CPU)",
    "SIGXFSZ": "killed by SIGXFSZ: a file grew beyond its limit (RLIMIT_FSIZE)",
}


def reason(code: int, *, sent: int | None = None, lost: bool = False) -> str:
    """Say in words how a process ended.

    `code` is an exit code as `Process.exitcode` has it: negative for a signal. `sent` is the signal that this process
    sent to it last, if any, and `lost` says that `code` is only a stand-in.
    """
    if lost:
        return _LOST
    if code >= 0:
        return {0: _NORMAL, 1: _EXCEPTION}.get(code) or _CODE.format(code=code)
    if sent == -code and -code in _OURS:
        return _OURS[signal.Signals(-code)]
    return _SIGNALS.get(name := _name_of(-code)) or f"killed by {name}"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the named ones
        return f"signal {number}"
