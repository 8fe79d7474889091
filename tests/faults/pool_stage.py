"""What a scenario about pools has at hand: one set of verbs for `Pool` and `ProcessPoolExecutor`, tasks, programs.

No wait of the parent in here is the pool's own, so a pool that hangs is an AssertionError and not a hang, unless a row
says `answer`, which blocks as users do.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError as CancelledError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.stage import (
    LIBRARY,
    PATIENCE,
    Caught,
    Never,
    count,
    ctx,
    forever,
    mark,
    mp,
    suicide,
    until,
)

POOL = os.environ.get("PHALANX_FAULTS_POOL", "Pool")
ON_TIME = 3.0  # what has to happen within 2 s, and 1 for a busy machine
BLOB = bytes(range(256)) * 80_000  # 20 MB
REFUSED = (TypeError, AttributeError, NotImplementedError, pickle.PicklingError)
TIMEOUT = (TimeoutError, mp.TimeoutError)

futures: Any = importlib.import_module("concurrent.futures" if LIBRARY == "std" else "phalanx.concurrent.futures")
threading: Any = importlib.import_module("threading" if LIBRARY == "std" else "phalanx.threading")
WorkerDied: type[Exception] = Never
RemoteError: type[Exception] = Never
if LIBRARY != "std":
    _phalanx: Any = importlib.import_module("phalanx")
    WorkerDied, RemoteError = _phalanx.WorkerDied, _phalanx.RemoteError


# ---- one set of verbs


def make(workers: int = 2, *, tasks_per_child: int | None = None, **options: Any) -> Any:
    """A pool of the kind that this row is about."""
    if POOL == "Pool":
        return ctx.Pool(workers, maxtasksperchild=tasks_per_child, **options)
    if tasks_per_child is not None:
        options["max_tasks_per_child"] = tasks_per_child
    return futures.ProcessPoolExecutor(workers, mp_context=ctx, **options)


def send(pool: Any, task: Callable[..., object], *args: object) -> Any:
    """The handle of a task on its way: an AsyncResult or a Future."""
    return pool.apply_async(task, args) if POOL == "Pool" else pool.submit(task, *args)


def ready(handle: Any) -> bool:
    """Whether there is an answer, of whatever sort."""
    done: bool = handle.ready() if POOL == "Pool" else handle.done()
    return done


def got(handle: Any, seconds: float = PATIENCE) -> Any:
    """The answer of a task, or its exception; an AssertionError where there is neither in time."""
    until(lambda: ready(handle), "an answer", seconds)
    return handle.get(0) if POOL == "Pool" else handle.result(0)


def answer(handle: Any) -> Any:
    """The same by the wait that users have, without a limit."""
    return handle.get() if POOL == "Pool" else handle.result()


def each(pool: Any, task: Callable[..., object], items: Iterable[object], chunk: int | None = 1) -> list[Any]:
    """What `map` makes of the items, with an end in sight."""
    if POOL == "Pool":
        found: list[Any] = got(pool.map_async(task, items, chunk))
        return found
    return list(pool.map(task, items, timeout=PATIENCE, **({} if chunk is None else {"chunksize": chunk})))


def lazily(pool: Any, task: Callable[..., object], items: Iterable[object]) -> Any:
    """The iterator over the answers, of what is made for long inputs."""
    return pool.imap(task, items) if POOL == "Pool" else pool.map(task, items)


def close(pool: Any) -> None:
    """The orderly end."""
    if POOL == "Pool":
        pool.close()
        pool.join()
    else:
        pool.shutdown()


def stop(pool: Any) -> None:
    """The end that does not wait for anybody's work."""
    if POOL == "Pool":
        pool.terminate()
        pool.join()
    elif LIBRARY == "std" and not hasattr(pool, "kill_workers"):
        pool.shutdown(cancel_futures=True)
    else:
        pool.kill_workers()


# ---- tasks


def square(number: int) -> int:
    """The task of those who have nothing to do with the fault."""
    return number * number


def squares(upto: int) -> list[int]:
    """What they have to answer."""
    return [number * number for number in range(upto)]


def quit_by(how: str) -> None:
    """The ways out of a worker that no `finally` sees."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    mark("p", os.getpid())
    match how:
        case "SIGKILL":
            suicide()
        case "SIGSEGV":
            ctypes.string_at(0)
        case "SIGABRT":
            os.abort()
        case _:
            os._exit(int(how))


def stuck(how: str) -> None:
    """A task that never ends, and does not listen."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    mark("s", os.getpid())
    match how:
        case "sleeps":
            forever()
        case "computes":
            while True:
                pass
        case "in C":
            sum(iter(int, 1))  # no bytecode runs, no other thread of the worker gets the interpreter
        case "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
            forever()


def hold_until(letter: str) -> int:
    """Busy until the mark is there."""
    until(lambda: count(letter), letter)
    return os.getpid()


def seated(seat: int, seats: int) -> int:
    """Sit down, and wait until all seats are taken."""
    mark(chr(256 + seat), os.getpid())
    until(lambda: all(count(chr(256 + other)) for other in range(seats)), "all workers at once")
    return os.getpid()


def tight(more: int) -> None:
    """An initializer that leaves a worker so many more bytes of address space."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))


class Balloon:
    """Small when pickled, half a gigabyte when loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (bytearray, (512 << 20,))


# ---- what a pool has to be, whatever happened to it


def team(pool: Any, workers: int = 2) -> list[int]:
    """The process ids of all workers: as many tasks at once, so none of them is behind another."""
    for seat in range(workers):
        mark(chr(256 + seat), 0)
    pids = {got(one) for one in [send(pool, seated, seat, workers) for seat in range(workers)]}
    assert len(pids) == workers, pids
    return sorted(pids)


def usable(pool: Any, workers: int = 2) -> None:
    """The pool has all its workers and gives right answers."""
    team(pool, workers)
    assert each(pool, square, range(20)) == squares(20)
    assert got(send(pool, square, 7)) == 49


class Among:
    """One task in the middle of twenty others."""

    def __init__(self, pool: Any, view: Any, task: Callable[..., object], *args: object) -> None:
        self._others = [send(pool, square, number) for number in range(10)]
        self.handle = send(view, task, *args)
        self._others += [send(pool, square, number) for number in range(10, 20)]

    def right(self) -> None:
        """The others have their answers."""
        assert [got(one) for one in self._others] == squares(20)


def among(pool: Any, task: Callable[..., object], *args: object, view: Any = None) -> Among:
    """Send a task, by `view` if there is one, between others."""
    return Among(pool, pool if view is None else view, task, *args)


def told(error: BaseException) -> str:
    """All that a user would read of an error, but for the lines of this side: those show the call, and name all."""
    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__
    return "".join(traceback.format_exception(error))


@contextmanager
def fails(kinds: type[BaseException] | tuple[type[BaseException], ...], *words: str) -> Iterator[Caught]:
    """The block has to raise one of `kinds`, and what a user would read of it contains `words`."""
    caught = Caught()
    try:
        yield caught
    except AssertionError:
        raise
    except kinds as error:
        text = told(error)
        caught.error = error
        missing = [word for word in words if word not in text]
        if missing:
            raise AssertionError(f"{missing} is not in what is told:\n{text}") from None
        return
    raise AssertionError(f"nothing was raised, not {kinds}")


def dead(error: Any, task: str, reason: str, pid: int | None = None, event: str = "task") -> None:
    """The error of a task whose worker died says all that it has to."""
    assert isinstance(error, WorkerDied) and isinstance(error, BrokenProcessPool), type(error)
    assert task in str(error) and reason in str(error), error
    assert task in str(error.task) and reason in error.reason and error.worker, vars(error)
    assert error.pid == pid if pid else error.pid > 0, (error.pid, pid)
    assert error.last_event.startswith(event) and f"last event: {error.last_event}" in str(error), error


def settled(number: Callable[[], int]) -> int:
    """The number, once it has stopped changing."""
    last, same, end = number(), 0, time.monotonic() + PATIENCE
    while same < 10:
        assert time.monotonic() < end, f"still changing: {number()}"
        time.sleep(0.02)
        same, last = (same + 1, last) if number() == last else (0, number())
    return last


def peak(act: Callable[[], object]) -> int:
    """By how many bytes this process grew at most, while it did that."""

    def size(field: str) -> int:
        (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(field)]
        return int(line.split()[1]) * 1024

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = size("VmRSS:")
    act()
    return size("VmHWM:") - before


def statistics(pool: Any, name: str) -> float:
    """The sum of a field of `pool.statistics()` over the workers, however its rows are kept."""
    found = pool.statistics()
    rows = getattr(found, "workers", found)
    rows = list(rows.values()) if hasattr(rows, "values") else list(rows)
    return sum(row[name] if isinstance(row, dict) else getattr(row, name) for row in rows)


# ---- programs of their own


class Program:
    """Another interpreter with a program of its own, in a group of its own: a file, an argument of `-c`, or stdin."""

    def __init__(self, text: str, *arguments: str, how: str = "file", pipe: bool = False) -> None:
        text = "import sys, time\nfrom tests.faults.stage import *\nfrom tests.faults.pool_stage import *\n" + text
        Path("program.py").write_text(text)
        command = {"file": ["program.py"], "-c": ["-c", text], "stdin": ["-"]}[how]
        self._err = Path("program-err")
        self._out = Path("program-out")
        with open("program.py") as source, self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore::DeprecationWarning", *command, *arguments],
                stdin=source if how == "stdin" else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self.process.pid

    def ended(self, seconds: float = PATIENCE) -> int:
        """Its exit code, once it has ended."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"the program hung\n{self.out}\n{self.err[-4000:]}") from None

    @property
    def out(self) -> str:
        """What it has printed."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it has complained of."""
        return self._err.read_text()


def warm_up() -> None:
    """Whatever the first pool of a process makes and keeps."""
    with make(1) as pool:
        assert got(send(pool, square, 2)) == 4
