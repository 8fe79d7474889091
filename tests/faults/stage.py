"""What every scenario has at hand: the library under test, a board for marks, and ways to kill, to wait and to count.

Nothing here uses what is tested: marks go over a mapped file, waiting is looking again, with an end.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import mmap
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

LIBRARY = os.environ.get("PHALANX_FAULTS_LIBRARY", "phalanx")
METHOD = os.environ.get("PHALANX_FAULTS_METHOD", "fork")
PATIENCE = 8.0  # how long anything is waited for that has to happen, in seconds
SOON = 0.5  # a death is known within 0.2 s, and a busy machine has 0.3 more to show it
ORPHANED = 2.0  # so many seconds after its parent a process has ended

mp: Any = importlib.import_module("multiprocessing" if LIBRARY == "std" else "phalanx.multiprocessing")
ctx: Any = mp.get_context(METHOD)
connection: Any = importlib.import_module(mp.__name__ + ".connection")
synchronize: Any = importlib.import_module(mp.__name__ + ".synchronize")
shared_memory: Any = importlib.import_module(mp.__name__ + ".shared_memory")
Empty, Full = queue.Empty, queue.Full


class Never(Exception):
    """Stands for what the standard library does not have: nobody raises it."""


OwnerDied: type[Exception] = Never
DeadlockError: type[Exception] = Never
PhalanxError: type[Exception] = Never
if LIBRARY != "std":
    _phalanx: Any = importlib.import_module("phalanx")
    OwnerDied, DeadlockError, PhalanxError = _phalanx.OwnerDied, _phalanx.DeadlockError, _phalanx.PhalanxError

for _name in os.environ.get("PHALANX_FAULTS_IMPORT", "").split():
    importlib.import_module(_name)

if os.environ.get("PHALANX_FAULTS_STACKS"):
    faulthandler.register(signal.SIGUSR2, all_threads=True)  # for whoever looks into a hang


# ---- names in /dev/shm: noted for the harness, who made them


def _note_names() -> None:
    shm: Any = importlib.import_module("_posixshmem")

    def shm_open(path: str, flags: int, mode: int = 0o777) -> int:
        fd: int = original(path, flags, mode)
        with open("shm", "a") as file:
            file.write(path.strip("/") + "\n")
        return fd

    original = shm.shm_open
    shm.shm_open = shm_open


if os.path.exists("board"):
    _note_names()


# ---- the board: 256 counters in a file that all processes map; each counter has one writer


def _map_board() -> mmap.mmap:
    with open("board", "r+b") as file:
        return mmap.mmap(file.fileno(), 4096)


# Words of a memory view are stored at once: a process killed meanwhile leaves the old number or the new one.
_board = memoryview(_map_board() if os.path.exists("board") else mmap.mmap(-1, 4096)).cast("q")


def mark(name: str, number: int = 1) -> None:
    """Write `number` under the one letter `name`."""
    _board[ord(name)] = number


def count(name: str) -> int:
    """The number under the letter `name`."""
    return _board[ord(name)]


def bump(name: str) -> None:
    """One more under `name`."""
    mark(name, count(name) + 1)


# ---- waiting


def until(done: Callable[[], object], what: str = "", seconds: float = PATIENCE) -> None:
    """Look until `done()`; an AssertionError when it does not happen."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"did not happen within {seconds} s: {what}"
        time.sleep(0.001)


def await_mark(name: str, at_least: int = 1) -> None:
    """Look until the counter is that high."""
    until(lambda: count(name) >= at_least, f"mark {name}")


def state(pid: int) -> str:
    """The state letter of a process as /proc has it, X for one that does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def gone(pid: int) -> bool:
    """Whether the process has ended, buried or not."""
    return state(pid) in "ZX"


def _switches(pid: int) -> list[str]:
    lines = []
    for status in sorted(Path(f"/proc/{pid}/task").glob("*/status")):
        try:
            lines += [line for line in status.read_text().splitlines() if "switches" in line or "State" in line]
        except OSError:
            pass
    return lines


def asleep(*pids: int) -> None:
    """Look until no thread of these processes has run for a while: they wait for something."""
    for pid in pids:
        end, quiet, last = time.monotonic() + PATIENCE, 0, [""]
        while quiet < 3:
            assert time.monotonic() < end and not gone(pid), f"process {pid} does not wait: {state(pid)}"
            now = _switches(pid)
            sleeps = not any("R (running)" in line for line in now)
            quiet = quiet + 1 if sleeps and now == last else 0
            last = now
            time.sleep(0.01)


def spin(seconds: float) -> None:
    """Busy for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def forever() -> NoReturn:
    """Do nothing until killed."""
    while True:
        time.sleep(3600)


# ---- processes


def start(target: Callable[..., object], *args: object, **options: Any) -> Any:
    """A started process."""
    process = ctx.Process(target=target, args=args, **options)
    process.start()
    return process


def kill(process: Any, number: int = signal.SIGKILL) -> None:
    """Kill a process and see it dead, without burying it."""
    os.kill(process.pid, number)
    until(lambda: gone(process.pid), f"the end of process {process.pid}")


def end(*processes: Any, code: int | None = 0) -> None:
    """Await the end of processes, with that exit code, and give them back."""
    for process in processes:
        process.join(PATIENCE)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            raise AssertionError(f"{process.name} hung")
        assert code is None or process.exitcode == code, f"{process.name} ended with {process.exitcode}"
        process.close()


def bury(*processes: Any) -> None:
    """Kill processes, if they are still there, and give them back."""
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    end(*processes, code=-signal.SIGKILL)


def suicide() -> NoReturn:
    """Die here and now, by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)
    forever()


class Deadly:
    """Kills whoever pickles it."""

    def __reduce__(self) -> NoReturn:
        suicide()


class Poison:
    """Kills whoever unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (suicide, ())


def explode() -> NoReturn:
    """What a `Bomb` does when it is loaded."""
    mark("!")
    raise ZeroDivisionError("the bomb was loaded")


class Bomb:
    """Raises when unpickled, and leaves the mark "!"."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (explode, ())


class Stubborn:
    """Raises when pickled."""

    def __reduce__(self) -> NoReturn:
        raise ZeroDivisionError("it will not be pickled")


# ---- expectations


class Caught:
    """The exception that a `raises` block saw."""

    error: BaseException


@contextmanager
def raises(kind: type[BaseException] | tuple[type[BaseException], ...], *words: str) -> Iterator[Caught]:
    """The block has to raise `kind`, and its text has to contain `words`."""
    caught = Caught()
    try:
        yield caught
    except kind as error:
        caught.error = error.with_traceback(None)
        missing = [word for word in words if word not in str(error)]
        if missing:
            raise AssertionError(f"{missing} is not in {type(error).__name__}: {error}") from error
        return
    raise AssertionError(f"nothing was raised, not {kind}")


def place(tag: str) -> str:
    """`scenario.py:LINE` of the one line that ends with the comment `tag`."""
    text = Path("scenario.py").read_text().splitlines()
    lines = [n for n, line in enumerate(text, 1) if line.rstrip().endswith(f"# {tag}")]
    assert len(lines) == 1, lines
    return f"scenario.py:{lines[0]}"


def interrupt_when_asleep(pid: int) -> Any:
    """A process that sends SIGINT to `pid` as soon as that one sleeps."""
    child = os.fork()
    if child == 0:
        try:
            asleep(pid)
            os.kill(pid, signal.SIGINT)
        finally:
            os._exit(0)
    return child


# ---- the play


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the one that lists
    return found


def _children() -> dict[int, str]:
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found[int(entry)] = fields[0]
    return found


def _threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


def _arena() -> int:
    """The bytes of the arena that are in use."""
    if LIBRARY == "std":
        return 0
    used: int = importlib.import_module("phalanx._core").shared_usage()[0]
    return used


def _nothing() -> None:
    pass


def _warm_up() -> None:
    """Whatever is made once and kept, such as the arena, a tracker or a fork server, is made here."""
    box = ctx.Queue()
    one, other = ctx.Pipe()
    end(start(_nothing))
    box.put(1)
    assert box.get() == 1
    one.close(), other.close()
    box.close()
    box.join_thread()
    if os.environ.get("PHALANX_FAULTS_TRACKER"):
        block = shared_memory.SharedMemory(create=True, size=1)
        block.close()
        block.unlink()
    if os.environ.get("PHALANX_FAULTS_SHARER"):
        one, other = ctx.Pipe()
        box = ctx.SimpleQueue()
        box.put(one)
        box.get().close(), one.close(), other.close(), box.close()
    if os.environ.get("PHALANX_FAULTS_POOL"):
        importlib.import_module("tests.faults.pool_stage").warm_up()


def play(main: Callable[[], object]) -> None:
    """Run `main`, then write down what it has left in this process."""
    _warm_up()
    gc.collect()
    fds, children, threads, arena = _descriptors(), _children(), _threads(), _arena()
    main()
    left: list[str] = []

    def look() -> bool:
        gc.collect()
        left[:] = [f"descriptor {fd} of {what}" for fd, what in _descriptors().items() - fds.items()]
        left[:] += [f"child {pid} ({how})" for pid, how in _children().items() if pid not in children]
        left[:] += [f"thread {tid}" for tid in _threads() - threads]
        left[:] += [f"{more} bytes of the arena" for more in [_arena() - arena] if more > 0]
        return not left

    try:
        until(look, seconds=1.0)  # a thread that was joined may still be on its way out
    except AssertionError:
        pass
    Path("left.json").write_text(json.dumps(left))
