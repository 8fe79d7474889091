"""What a worker of a pool runs: takes tasks from the board and gives their results back.

A task is a tuple `(mode, function, first, second)`. `function` is a number in the table of functions, or the function
itself. A failure travels as a tuple of plain values, so that it can be read whatever the exception is like:
`(pickle or None, traceback, class, text, what)`.
"""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from itertools import starmap
from multiprocessing.reduction import ForkingPickler
from time import perf_counter_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from typing import Any

    from phalanx import _core

__all__ = ["CALL", "EXECUTOR", "LOADING", "MAP", "POOL", "RAISED", "SENDING", "STARMAP", "Failure", "run"]

CALL, MAP, STARMAP = range(3)
"""How a task calls its function: once; for each item; for each tuple of arguments."""

POOL, EXECUTOR = range(2)
"""Whose worker it is. A pool's result that cannot be pickled is a `MaybeEncodingError`, an executor's what pickling raised."""

RAISED, LOADING, SENDING = range(3)
"""What failed: the function; the task, while it was loaded; the result, when it was pickled."""

Failure = tuple["bytes | None", str, str, str, int]


def _failure(error: BaseException, what: int) -> Failure:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(error)
    except Exception as worse:
        text = f"<its text cannot be made: {type(worse).__name__}>"
    try:
        trace = "".join(traceback.format_exception(kind, error, error.__traceback__))
    except Exception:
        trace = ""
    packed = None
    try:
        packed = bytes(ForkingPickler.dumps(error, 5))
        # What cannot be built again here could not be there either.
        if not isinstance(pickle.loads(packed), BaseException):
            packed = None
    except Exception:
        packed = None
    return packed, trace, name, text, what


class _Lost(Exception):
    """The function is not to be found here."""


class _Tasks:
    """One worker's tasks."""

    def __init__(self, board: _core.Board, bell: socket.socket, functions: Any, style: int) -> None:
        self._board = board
        self._bell = bell.fileno()
        self._functions = functions
        self._known: dict[int, Callable[..., Any]] = {}
        self._style = style

    def _function(self, function: Any) -> Callable[..., Any]:
        if type(function) is not int:
            return function  # type: ignore[no-any-return]
        known = self._known.get(function)
        if known is None:
            known = self._known[function] = self._functions.item(function)
        return known

    def _call(self, task: tuple[int, Any, Any, Any]) -> Any:
        mode, function, first, second = task
        call = self._function(function)
        if mode == CALL:
            return call(*first, **second) if second else call(*first)
        began = perf_counter_ns()
        results = list(map(call, first) if mode == MAP else starmap(call, first))
        return perf_counter_ns() - began, results

    def one(self) -> bool:
        """Do one task. False: there will be none any more."""
        board, bell = self._board, self._bell
        try:
            task = board.take()
        except BaseException as error:
            if board.current is None:
                raise
            board.finish(_failure(error, LOADING), True, bell)
            return True
        if task is None:
            return False
        try:
            function = task[1]
            if type(function) is int and function not in self._known:
                self._function(function)
        except BaseException as error:
            board.finish(_failure(error, LOADING), True, bell)
            return True
        try:
            result = self._call(task)
        except BaseException as error:
            board.finish(_failure(error, RAISED), True, bell)
            return True
        try:
            board.finish(result, False, bell)
        except BaseException as error:
            if board.current is None:  # a signal, after it was sent
                raise
            board.finish(_failure(self._unsendable(error, result), SENDING), True, bell)
        return True

    def _unsendable(self, error: BaseException, result: Any) -> BaseException:
        if self._style == EXECUTOR:
            return error
        from multiprocessing.pool import MaybeEncodingError

        return MaybeEncodingError(error, result)


def run(
    board: _core.Board,
    bell: socket.socket,
    functions: Any,
    reports: Any,
    style: int,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    max_tasks: int | None,
) -> None:
    """Work until the board is closed, or for `max_tasks` tasks."""
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
        except KeyboardInterrupt:
            # Between two tasks: the master decides what Ctrl-C means.
            continue
        done += 1
