"""What a worker of a pool runs: takes tasks from the board and gives their results back.

A task is a tuple `(mode, function, first, second)`, with its options as a fifth where it has some. `function` is a
number in the table of functions, or the function itself. A failure travels as a tuple of plain values, so that it can
be read whatever the exception is like: `(pickle or None, traceback, class, text, what)`.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import pickle
import random
import reprlib
import resource
import traceback
from contextlib import nullcontext
from multiprocessing import process
from multiprocessing.reduction import ForkingPickler
from time import perf_counter_ns

from phalanx.multiprocessing import _named

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from typing import Any

    from phalanx import _core

__all__ = [
    "CALL",
    "EXECUTOR",
    "LOADING",
    "MAP",
    "POOL",
    "RAISED",
    "SENDING",
    "STARMAP",
    "Failure",
    "describe",
    "perform",
    "perform_within",
    "run",
    "text_of",
]

CALL, MAP, STARMAP = range(3)
"""How a task calls its function: once; for each item; for each tuple of arguments."""

POOL, EXECUTOR = range(2)
"""Whose worker it is. In a pool, a result that cannot be pickled is a `MaybeEncodingError`, not what was raised."""

RAISED, LOADING, SENDING = range(3)
"""What failed: the function; the task, while it was loaded; the result, when it was pickled."""

Failure = tuple["bytes | None", str, str, str, int]


def text_of(error: BaseException) -> str:
    """The text of an exception, whatever its `__str__` does."""
    try:
        return str(error)
    except Exception as worse:
        return f"<its text cannot be made: {type(worse).__name__}>"


def _failure(error: BaseException, what: int) -> Failure:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    text = text_of(error)
    try:
        trace = "".join(traceback.format_exception(kind, error, error.__traceback__))
    except Exception:
        trace = ""
    packed = None
    try:
        packed = _packed(error)
        # What cannot be built again here could not be there either.
        if not isinstance(pickle.loads(packed), BaseException):
            packed = None
    except Exception:
        packed = None
    return packed, trace, name, text, what


def _packed(error: BaseException) -> bytes:
    try:
        return bytes(ForkingPickler.dumps(error, 5))
    except Exception:
        if not _named.is_known():
            raise
    return _named.dumps(error)


_PLAIN = (int, float, str, bytes, bool, type(None))
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40


def _plainly(value: Any) -> str:
    # No code of the program runs for a message.
    return _short.repr(value) if type(value) in _PLAIN else f"<{type(value).__name__}>"


def name_of(function: Any) -> str:
    """What a function is called, for a message."""
    try:
        name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    except Exception:
        name = None
    return name if isinstance(name, str) else type(function).__name__


def describe(task: tuple[Any, ...], function: Any) -> str:
    """A call in words, for a message."""
    mode, _, first, second = task[:4]
    name = name_of(function)
    if mode != CALL:
        n = len(first)
        return f"{name} for {n} item{'s' * (n != 1)}, the first {_plainly(first[0])}" if n else name
    shown = [_plainly(value) for value in first[:3]] + ["..."] * (len(first) > 3)
    shown += [f"{key}={_plainly(value)}" for key, value in list((second or {}).items())[:3]]
    return f"{name}({', '.join(shown)})"


def sow(seed: int, at: int) -> None:
    """Seed the generators of `random` and, where it is installed, of NumPy for the task number `at`."""
    import hashlib  # loads OpenSSL: 2 ms and 4 MB, which only those who ask for seeds should pay

    digest = hashlib.blake2b(f"{seed}/{at}".encode(), digest_size=16).digest()
    random.seed(digest)
    numpy = _numpy()
    if numpy is not None:
        numpy.random.seed(list(memoryview(digest).cast("I")))


@functools.cache
def _numpy() -> Any:
    # Loaded by us, not by the first task, whose numbers would be drawn before a seed could be set.
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


class _Limited:
    """The data of this process is limited while a task runs."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def __enter__(self) -> None:
        self._old = resource.getrlimit(resource.RLIMIT_DATA)
        most = self._old[1]
        soft = self._limit if most == resource.RLIM_INFINITY else min(self._limit, most)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, most))

    def __exit__(self, *exc: object) -> None:
        resource.setrlimit(resource.RLIMIT_DATA, self._old)


def perform(mode: int, function: Any, first: Any, second: Any) -> Any:
    """Do a task without options. One with many items also gives, first, their nanoseconds."""
    if mode == CALL:
        return function(*first, **second) if second else function(*first)
    began = perf_counter_ns()
    # Not by `map`: what raises StopIteration would look like its end.
    results = [function(item) for item in first] if mode == MAP else [function(*item) for item in first]
    return perf_counter_ns() - began, results


def _perform_with(options: dict[str, int], mode: int, call: Any, first: Any, second: Any) -> Any:
    memory, seed, at = options.get("memory"), options.get("seed"), options.get("at", 0)
    if seed is not None:
        sow(seed, at)  # before memory is limited: NumPy may have to be loaded
    with _Limited(memory) if memory else nullcontext():
        if mode == CALL:
            return call(*first, **(second or {}))
        began = perf_counter_ns()
        results = []
        for item in first:
            if seed is not None:
                sow(seed, at)
            results.append(call(item) if mode == MAP else call(*item))
            at += 1
        return perf_counter_ns() - began, results


def perform_within(mode: int, function: Any, first: Any, second: Any, options: dict[str, int] | None = None) -> Any:
    """Do a task in the midst of another one, which has submitted it: with its options; generators are as before."""
    if options is None:
        return perform(mode, function, first, second)
    numpy = _numpy() if "seed" in options else None
    state, numpys = random.getstate(), numpy and numpy.random.get_state()
    try:
        return _perform_with(options, mode, function, first, second)
    finally:
        if "seed" in options:
            random.setstate(state)
            if numpy is not None:
                numpy.random.set_state(numpys)


class _Tasks:
    """One worker's tasks."""

    def __init__(self, board: _core.Board, bell: socket.socket, functions: Any, style: int) -> None:
        self._board = board
        self._bell = bell.fileno()
        self._functions = functions
        self._known: dict[int, Callable[..., Any]] = {}
        self._style = style
        self._pid = os.getpid()

    def _function(self, function: Any) -> Callable[..., Any]:
        if type(function) is not int:
            return function  # type: ignore[no-any-return]
        known = self._known.get(function)
        if known is None:
            known = self._known[function] = self._functions.item(function)
        return known

    @property
    def are_mine(self) -> bool:
        """Not in a child that a task has forked."""
        return os.getpid() == self._pid

    def one(self) -> bool:
        """Do one task. False: there will be none any more."""
        board, bell = self._board, self._bell
        try:
            task = board.take()
        except BaseException as error:
            if not board.has_task:
                raise
            self.drop(error, LOADING)
            return True
        if task is None:
            return False
        if type(task) is int:
            self._bundle()
            return True
        try:
            function = self._function(task[1])
        except BaseException as error:
            board.finish(_failure(error, LOADING), True, bell)
            return True
        mode, _, first, second, *options = task
        try:
            if options:
                result = _perform_with(options[0], mode, function, first, second)
            else:
                result = perform(mode, function, first, second)
        except BaseException as error:
            if not board.has_task:  # a child that the task has forked: the task is not its own
                raise
            board.finish(_failure(error, RAISED), True, bell)
            return True
        if not board.has_task:
            raise SystemExit
        try:
            board.finish(result, False, bell)
        except BaseException as error:
            if not board.has_task:  # a signal, after it was sent
                raise
            if self._sent_by_name(result):
                return True
            call = describe(task, self._function(task[1]))
            self._tell(lambda failure: board.finish(failure, True, bell), error, result, call)
        return True

    def _sent_by_name(self, result: Any) -> bool:
        """A result that pickle refuses, where that is for classes that only the caller knows."""
        if not _named.is_known():
            return False
        try:
            self._board.finish(_named.Packed(_named.dumps(result)), False, self._bell)
        except Exception:
            return False
        return True

    def _bundle(self) -> None:
        board = self._board
        try:
            function = self._function(board.call())
        except BaseException as error:
            self._drop_bundle(_failure(error, LOADING))
            return
        while True:
            try:
                odd = board.work(function)
            except BaseException as error:
                if not board.has_task:  # as above
                    raise
                board.give(_failure(error, RAISED))
                continue
            if odd is None:
                board.finish_many(self._bell)
                return
            if len(odd) == 1:
                board.give(_failure(odd[0], LOADING))
            else:
                self._tell(board.give, *odd, name_of(function))

    def _drop_bundle(self, failure: Failure) -> None:
        while self._board.skip():
            self._board.give(failure)
        self._board.finish_many(self._bell)

    def drop(self, error: BaseException, what: int) -> None:
        """Whatever is in hand fails with `error`."""
        board = self._board
        if not board.has_task:
            return
        if board.has_bundle:
            self._drop_bundle(_failure(error, what))
        else:
            board.finish(_failure(error, what), True, self._bell)

    def _tell(self, give: Callable[[Failure], None], error: BaseException, result: Any, call: str) -> None:
        """Give the failure of a task whose result could not be sent: with all that is known, if that can be sent."""
        if not isinstance(error, MemoryError):
            try:
                give(self._unsendable(error, result, call))
            except BaseException:
                if not self._board.has_task:
                    raise
            else:
                return
        give(_failure(error, SENDING))

    def _unsendable(self, error: BaseException, result: Any, call: str) -> Failure:
        from phalanx.multiprocessing._why import explain

        explain(error, result, f"the result of {call}")
        if self._style == EXECUTOR:
            return _failure(error, SENDING)
        from phalanx.multiprocessing.pool import MaybeEncodingError

        try:
            told: BaseException = MaybeEncodingError(error, result)
        except Exception:  # its repr() fails as well
            return _failure(error, SENDING)
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
        return _failure(told, SENDING)


def run(
    board: _core.Board,
    bell: socket.socket,
    functions: Any,
    reports: Any,
    style: int,
    seat: int,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    max_tasks: int | None,
) -> None:
    """Work until the board is closed, or for `max_tasks` tasks."""
    # The master ends its workers itself; a task may have children of its own.
    this: Any = process.current_process()
    this._config["daemon"] = False
    board.sit(seat)
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:
            if style == EXECUTOR:
                logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            reports.put((os.getpid(), _failure(error, RAISED)))
            bell.send(b"!")
            return
    reports.put((os.getpid(), None))
    tasks = _Tasks(board, bell, functions, style)
    done = 0
    while max_tasks is None or done < max_tasks:
        try:
            if not tasks.one():
                break
        except KeyboardInterrupt as error:
            # Between two tasks, or between a task and what we do around it: the master decides what Ctrl-C means.
            if not tasks.are_mine:
                raise
            tasks.drop(error, RAISED)
        done += 1
