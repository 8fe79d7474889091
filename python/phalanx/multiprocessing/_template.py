"""Fast `spawn`: a fresh interpreter is started once, and copied for each process.

```text
parent ── exec, once ──► template: an interpreter that has loaded what every child loads, and nothing of the program
   │ ── descriptors, a request ──► │
   │                               ├── clone(CLONE_PARENT) ──► child: a child of the *parent*, like one it had started
   │ ◄── its pid ───────────────── │                           itself; puts descriptors, environment and signals in
   │ ── preparation data, process object ─────────────────►    place, then goes on as the standard library's does
```

To the parent the result is what `spawn` is to it otherwise: a pid to wait for, an exit status, nobody in between. What
a child inherits by `exec` and could find different in a copy of the template is either sent with each request
(descriptors, environment, umask, signals) or noted when the template starts (credentials, limits, namespaces, flags and
so on, see `_facts`): if that has changed the next process is started by `exec`, the one after it from a new template.

What differs: children share the seed of their hashes, `sitecustomize` has run once for all of them, and what the
interpreter itself is made of does not take part in their garbage collections.
"""

from __future__ import annotations

import atexit
import errno
import gc
import marshal
import os
import select
import signal
import sys
from _thread import RLock as _RLock  # the original one
from types import BuiltinFunctionType

from phalanx import _settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from socket import socket
    from typing import Any

_MOST_FDS = 240  # one message takes 253
_MOST_BYTES = 100_000  # one message takes the send buffer, 200 KB by default

# Read when an interpreter or the C library starts. If one of them changes, the template has seen another value.
_VARIABLES = (b"PYTHON", b"LD_", b"LC_", b"LANG", b"TZ", b"HOME", b"MALLOC_", b"GLIBC_")
# These start something in each new interpreter that copies would share, or make it print.
_STARTERS = (b"COVERAGE_PROCESS_START", b"COVERAGE_PROCESS_CONFIG", b"PYTHONVERBOSE", b"PYTHONPROFILEIMPORTTIME")
_CREDENTIALS = (
    *(b"Uid", b"Gid", b"Groups", b"CapInh", b"CapPrm", b"CapEff", b"CapBnd", b"CapAmb"),
    *(b"NoNewPrivs", b"Seccomp", b"Seccomp_filters"),
)
_STATUS = (*_CREDENTIALS, b"NSpgid", b"NSsid", b"Cpus_allowed", b"Mems_allowed")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts")
_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
_READY = b"ready"
_PATIENCE = 1000  # milliseconds for an answer that takes a millisecond
_TOO_MUCH = (errno.EMSGSIZE, errno.ENOBUFS, errno.ETOOMANYREFS, errno.EMFILE)  # for one message
_PRINTERS = ("-v", "importtime")  # options that make each new interpreter print something

_guard = _RLock()
_template: _Template | None = None
_seen: object = None  # facts that there was no template for: worth one if they come again
_refused = False  # no copies here: the system does not make them, or a new interpreter is not like another


class _Lost(Exception):
    """The template is gone."""


# ---------------------------------------------------------------- in the parent


def start(command: Sequence[Any], fds: Iterable[int], tracker_fd: int, data_fd: int) -> int | None:
    """Start a process from the template, with the descriptors `fds` under their own numbers. Returns its pid.

    `command` is what would be executed without a template; None says that it has to be. Raises OSError where the system
    has no room for one more process, and ValueError if `PHALANX_SPAWN` makes no sense.
    """
    global _refused
    if _settings.spawn_way() == "exec" or _refused or not _is_usual(command, tracker_fd, data_fd):
        return None
    numbers = [0, 1, 2, *sorted({int(fd) for fd in fds} - {0, 1, 2})]
    if len(numbers) > _MOST_FDS or _guard._is_owned():  # type: ignore[attr-defined]
        return None  # the latter below a signal handler that came in between
    with _guard:
        try:
            if not all(map(os.get_inheritable, (0, 1, 2))):
                return None  # the child is to have it closed
            facts, state = _facts(command)
        except OSError:
            return None
        template = _template_for(facts, command)
        if template is None:
            return None
        words = [os.fsdecode(word) for word in command]
        request = marshal.dumps((numbers, *state, *template.changes(), words, tracker_fd, data_fd))
        if len(request) > _MOST_BYTES:
            return None
        try:
            answer = template.ask(request, numbers)
        except _Lost:
            _drop()
            return None
        except OSError as error:
            if error.errno not in _TOO_MUCH:
                _drop()
                raise
            return None
        except BaseException:
            _drop()
            raise
    if answer > 0:
        return answer
    if -answer in (errno.EAGAIN, errno.ENOMEM):
        raise OSError(-answer, os.strerror(-answer))
    _refused = True
    return None


def _template_for(facts: object, command: Sequence[Any]) -> _Template | None:
    global _template, _seen, _refused
    if _template is not None and _template.is_whole():
        if _template.facts == facts:
            return _template
        if _seen != facts:
            _seen = facts
            return None
    _drop()
    try:
        _template = _Template(facts, command)
    except OSError as error:
        if error.errno is None:  # not the system's: a signal handler raised it
            raise
        _refused = True
    except _Lost:
        _refused = True
    return _template


def _drop() -> None:
    global _template
    template, _template = _template, None
    atexit.unregister(_drop)
    if template is not None:
        template.stop()


class _Template:
    """The parent's end of a template. Raises `_Lost` if it does not come up, or is not as a template should be."""

    def __init__(self, facts: object, command: Sequence[Any]) -> None:
        from multiprocessing import util
        from socket import AF_UNIX, SOCK_SEQPACKET, socketpair

        self.facts = facts
        self.environment = _environment().copy()
        self.socket, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        self.socket.settimeout(None)  # whatever the default is
        try:
            with theirs:
                self.pid = _spawn_quietly(util, command, theirs.fileno())
            self.handle = os.pidfd_open(self.pid)
        except BaseException:
            self.socket.close()
            raise
        self.marks = [(fd, _mark_of(fd)) for fd in (self.socket.fileno(), self.handle)]
        try:
            if self._receive(16) != _READY:
                raise _Lost
        except BaseException:
            self.stop()
            raise
        atexit.register(_drop)

    def is_whole(self) -> bool:
        """Whether its descriptors are what they were: a program may close all that it does not know."""
        return all(_mark_of(fd) == mark for fd, mark in self.marks)

    def changes(self) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
        """The environment variables that are gone, and those that are new or changed, since the template started."""
        then, now = self.environment, _environment()
        if then == now:
            return [], []
        gone = [name for name in then if name not in now]
        return gone, [item for item in now.items() if then.get(item[0]) != item[1]]

    def ask(self, request: bytes, fds: list[int]) -> int:
        """Ask for a process. Returns its pid, or the negative number of an error."""
        import struct
        from socket import SCM_RIGHTS, SOL_SOCKET

        try:
            self.socket.sendmsg([request], [(SOL_SOCKET, SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))])
        except (BrokenPipeError, ConnectionError):
            raise _Lost from None
        try:
            answer = self._receive(8)
        except _Lost:
            raise
        except BaseException:
            # By a signal handler. The answer is awaited first, or nobody would ever know of the process.
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            if poll.poll(_PATIENCE):
                answer = self._receive(8)
                pid = int.from_bytes(answer, sys.byteorder, signed=True)
                if pid > 0:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            raise
        return int.from_bytes(answer, sys.byteorder, signed=True)

    def _receive(self, size: int) -> bytes:
        try:
            answer = self.socket.recv(size)
        except ConnectionError:
            raise _Lost from None
        if not answer:
            raise _Lost
        return answer

    def stop(self) -> None:
        """End the template and wait for that."""
        if not self.is_whole():
            self.socket.detach()  # it sees the end of its socket, and ends
            return
        self.socket.close()
        try:
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)  # it has nothing to lose
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # somebody else has waited for it
        os.close(self.handle)

    def forget(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        if self.is_whole():
            self.socket.close()
            os.close(self.handle)
        else:
            self.socket.detach()


def _mark_of(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _spawn_quietly(util: Any, command: Sequence[Any], fd: int) -> int:
    """Start the template's interpreter with every signal blocked: it has no business with any of them."""
    from phalanx.multiprocessing import _start

    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = _CODE.format(home=home, control=fd, parent=os.getpid(), mode=_start.mode_of_standard_modules())
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid: int = util.spawnv_passfds(command[0], [*command[:-3], "-c", code, command[-1]], [fd])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


# `phalanx` may be found in `home` only, and must not be looked for in the working directory. `serve` returns in each
# child.
_CODE = (
    "import sys; path = sys.path[:]; sys.path[:] = [*filter(None, path), {home!r}]; "
    "from multiprocessing.spawn import spawn_main; usual = set(sys.modules); "
    "from phalanx.multiprocessing._template import serve; "
    "sys.path[:] = path; spawn_main(**serve({control}, {parent}, {mode!r}, usual))"
)


def _is_usual(command: Sequence[Any], tracker_fd: int, data_fd: int) -> bool:
    """Whether nobody has changed what starts a process, and a copy can stand for it."""
    import _posixsubprocess
    from multiprocessing import spawn, util

    executable = spawn.get_executable()
    if sys.platform != "linux" or not executable or os.fsencode(executable) != os.fsencode(sys.executable):
        return False
    options: list[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    call = f"spawn_main(tracker_fd={tracker_fd!r}, pipe_handle={data_fd!r})"
    code = f"from multiprocessing.spawn import spawn_main; {call}"
    return (
        list(command) == [executable, *options, "-c", code, "--multiprocessing-fork"]
        and type(_posixsubprocess.fork_exec) is BuiltinFunctionType  # debuggers replace it
        and not any(option.startswith(_PRINTERS) for option in options)
        and _environment().keys().isdisjoint(_STARTERS)
    )


def _environment() -> dict[bytes, bytes]:
    environment: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    return environment


def _facts(command: Sequence[Any]) -> tuple[object, tuple[int, int, int]]:
    """What a new process inherits from this thread and a copy of the template would not: to be compared with `==`.

    And what it can be told: umask, blocked signals, ignored signals. Raises OSError where there is no `/proc`.
    """
    import resource

    from phalanx.multiprocessing import _start

    status = _status_of("thread-self")
    root = os.stat("/")
    facts = (
        tuple(command[:-3]),
        _start.mode_of_standard_modules(),
        sorted(item for item in _environment().items() if item[0].startswith(_VARIABLES)),
        [status.get(name) for name in _STATUS],
        [_namespace(name) for name in _NAMESPACES],
        (root.st_dev, root.st_ino),
        _read("/proc/thread-self/cgroup"),
        _read("/proc/self/oom_score_adj"),
        [resource.getrlimit(limit) for name, limit in vars(resource).items() if name.startswith("RLIMIT_")],
        (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, os.getpriority(os.PRIO_PROCESS, 0)),
    )
    return facts, (int(status[b"Umask"], 8), int(status[b"SigBlk"], 16), int(status[b"SigIgn"], 16))


def _status_of(process: object) -> dict[bytes, bytes]:
    lines = _read(f"/proc/{process}/status").split(b"\n")
    return {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}


def _namespace(name: str) -> int:
    try:
        return os.stat(f"/proc/thread-self/ns/{name}").st_ino
    except OSError:  # older kernels have fewer of them
        return 0


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def _after_fork() -> None:
    """In a forked child: the template is the parent's."""
    global _template, _seen
    _guard._at_fork_reinit()  # type: ignore[attr-defined]
    template, _template, _seen = _template, None, None
    if template is not None:
        atexit.unregister(_drop)
        template.forget()


# ---------------------------------------------------------------- in the template


def serve(control: int, parent: int, mode: str | None, usual: Iterable[str]) -> dict[str, int]:
    """The life of a template. Returns in its children only: the arguments of `spawn_main`.

    `control` is the descriptor of the socket to the process `parent`. `mode` says whether its standard modules run on
    phalanx and what happens at a deadlock. `usual` are the modules that any new interpreter has by now.
    """
    from socket import socket

    from phalanx import _core
    from phalanx.multiprocessing import _start

    native: Any = _core
    clone = native.clone_sibling
    ignored = int(_status_of("self")[b"SigIgn"], 16)
    watch = os.pidfd_open(parent)
    if os.getppid() != parent:
        os._exit(0)
    # What `spawn` needs itself.
    from multiprocessing import popen_spawn_posix, resource_tracker  # noqa: F401

    _start.lend(mode, usual)
    names = vars(sys.modules["__main__"])
    for name in ("sys", "path", "serve", "usual"):
        names.pop(name, None)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.chdir("/")
    connection = socket(fileno=control)
    connection.set_inheritable(False)
    identity = _identity_of(parent)
    connection.send(_READY if _is_pristine() else b"not fit")
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(watch, select.POLLIN)
    gc.freeze()  # a collection in a child would look at all that is here, which is to copy it page by page
    while True:
        try:
            if any(fd == watch for fd, _ in poll.poll()):
                os._exit(0)
            request, fds = _receive(connection)
            if not request or _identity_of(parent) != identity:
                os._exit(0)  # a parent that has given up privileges must not get them back through its template
        except BaseException:
            os._exit(1)
        try:
            answer = clone()
        except OSError as error:
            answer = -(error.errno or errno.EINVAL)
        if answer == 0:
            connection.close()
            os.close(watch)
            return _settle(request, fds, ignored)
        try:
            connection.send(answer.to_bytes(8, sys.byteorder, signed=True))
            for fd in fds:
                os.close(fd)
        except BaseException:
            os._exit(1)


def _is_pristine() -> bool:
    """Whether nothing runs here, or waits for the end of the process, that each child would need for itself."""
    return (
        len(os.listdir("/proc/self/task")) == 1
        and atexit._ncallbacks() == 1  # that of `multiprocessing.util`
        and sys.gettrace() is None
        and sys.getprofile() is None
    )


def _identity_of(process: int) -> list[bytes | None]:
    status = _status_of(process)
    return [status.get(name) for name in _CREDENTIALS]


def _receive(connection: socket) -> tuple[bytes, list[int]]:
    from socket import CMSG_SPACE, MSG_CMSG_CLOEXEC

    request, ancillary, _, _ = connection.recvmsg(2 * _MOST_BYTES, CMSG_SPACE(4 * 253), MSG_CMSG_CLOEXEC)
    return request, [fd for _, _, data in ancillary for fd in memoryview(data).cast("i")]


# ---------------------------------------------------------------- in a child


def _settle(request: bytes, fds: list[int], ignored_before: int) -> dict[str, int]:
    """Makes a copy of the template what the request asks for."""
    numbers, umask, blocked, ignored, gone, new, command, tracker_fd, data_fd = marshal.loads(request)
    _move(dict(zip(fds, numbers, strict=True)))
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        _reopen(name, mode)
    os.umask(umask)
    for variable in gone:
        del os.environb[variable]
    for variable, value in new:
        os.environb[variable] = value
    sys.orig_argv = command
    signals = signal.valid_signals()
    for number in signals - _IGNORED_BY_PYTHON:
        bit = 1 << (number - 1)
        if (ignored ^ ignored_before) & bit:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if ignored & bit else usual)
    signal.pthread_sigmask(signal.SIG_SETMASK, [number for number in signals if blocked >> (number - 1) & 1])
    return {"tracker_fd": tracker_fd, "pipe_handle": data_fd}


def _move(goals: dict[int, int]) -> None:
    """Gives each descriptor the number that it shall have."""
    while goals:
        source, goal = next((pair for pair in goals.items() if pair[1] not in goals), (-1, -1))
        if source < 0:  # only circles are left
            source, goal = goals.popitem()
            if source == goal:
                os.set_inheritable(goal, True)
            else:
                goals[os.dup(source)] = goal
                os.close(source)
            continue
        os.dup2(source, goal)
        os.close(source)
        del goals[source]


def _reopen(name: str, mode: str) -> None:
    """A standard stream on a new file, as the interpreter makes it at its start."""
    from io import TextIOWrapper

    old = getattr(sys, name)
    fd = ("stdin", "stdout", "stderr").index(name)
    plain = old.write_through  # the interpreter runs unbuffered
    binary: Any = open(fd, mode + "b", 0 if plain and mode == "w" else -1, closefd=False)  # noqa: SIM115  stays open
    raw = getattr(binary, "raw", binary)
    raw.name = f"<{name}>"
    line_buffering = not plain and (fd == 2 or raw.isatty())
    stream: Any = TextIOWrapper(binary, old.encoding, old.errors, "\n", line_buffering, plain)
    stream.mode = mode
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
