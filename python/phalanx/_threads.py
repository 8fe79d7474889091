"""The standard `Thread` class, adopted: `join` and the wait at exit go through the door like any other wait.

The bookkeeping of threads (names, idents, hooks, `enumerate`, thread states) stays the standard library's. Each
thread that starts while the class is adopted gets a latch, which it sets as the last thing it does in Python. Who
waits for a thread sleeps on its latch, where a deadlock can be seen, and then lets the original function wait for the
last microseconds: the thread-local values that are destroyed and the thread state that goes.

    started ── latch unset ──────────────── latch set ── thread state gone
               `join` sleeps at the door    `join` sleeps in the original function
"""

from __future__ import annotations

import os
import sys
import threading
from _thread import allocate_lock as _allocate_lock  # the original one, also when `install()` runs later
from _thread import get_ident
from time import monotonic

from phalanx import _core

TYPE_CHECKING = False  # `typing` costs more to import than all of this module
if TYPE_CHECKING:
    from typing import Any

_LATCH = "_phalanx_latch"

# Private names of the standard module are used below on purpose; each branch says for which versions.
_std: Any = threading

_guard = _allocate_lock()
_adopted = False
_hooked_fork = False
_original: dict[str, Any] = {}  # kept after a release: bound methods taken before may still come
_left_behind: set[str] = set()  # somebody else's wrapper sits on top of these, so they could not be taken back


def adopt() -> None:
    """Puts the door under `Thread.join`, the life of a thread and the wait at exit. Harmless when repeated."""
    global _adopted, _hooked_fork
    with _guard:
        if not _hooked_fork and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)  # runs after the hook of `threading`, which came first
            _hooked_fork = True
        if _adopted:
            return
        for owner, name, ours in _wrappers():
            current = getattr(owner, name)
            if current is not ours and name not in _left_behind:
                _original[name] = current
                setattr(owner, name, ours)
        main = _std._main_thread
        if main.is_alive() and not _std._SHUTTING_DOWN:
            latch = main.__dict__.setdefault(_LATCH, _core.Latch())
            if main._ident == get_ident():
                latch.promise()
        _core.set_main_thread(main._ident)
        _adopted = True


def release() -> None:
    """Undoes `adopt`. Threads that are running and threads that wait for them finish as they began."""
    global _adopted
    with _guard:
        if not _adopted:
            return
        for owner, name, ours in _wrappers():
            if getattr(owner, name) is ours:
                setattr(owner, name, _original[name])
            else:
                _left_behind.add(name)
        _set_latch(_std._main_thread)  # nobody would do it at exit; who waits for it goes on to the original wait
        _std._main_thread.__dict__.pop(_LATCH, None)
        _adopted = False


def adopted() -> bool:
    """Whether the standard `Thread` class is adopted now."""
    return _adopted


# ---------------------------------------------------------------- the life of a thread


def _bootstrap_inner(self: Any) -> None:
    latch = self.__dict__[_LATCH] = _core.Latch()
    _core.thread_begin(self._daemonic, self._name)
    latch.promise()
    try:
        _original["_bootstrap_inner"](self)
    finally:
        try:
            _set_latch(self)
        except BaseException:
            # An asynchronous exception, or a profile function that failed at the call and was taken out therefore.
            _set_latch(self)
            raise


def _set_latch(thread: Any) -> None:
    latch = thread.__dict__.get(_LATCH)  # a fork replaces it in the child, a release takes that of the main thread
    if latch is not None:
        latch.set()


def join(self: Any, timeout: float | None = None) -> None:
    """Wait until the thread has ended, or until `timeout` seconds have passed.

    Returns None in both cases, so ask `is_alive()` after a join with a time limit. A negative `timeout` counts as 0;
    one beyond `TIMEOUT_MAX` raises OverflowError. Joining a thread that has ended returns at once, as often as you
    like.

    Raises RuntimeError for a thread that was not started and for the current thread, and `phalanx.DeadlockError` if the
    thread can never end because it waits for this one.
    """
    original = _original["join"]
    latch = self.__dict__.get(_LATCH)
    if latch is None or latch.is_set() or not self._started.is_set() or self is _std.current_thread():
        original(self, timeout)  # ended, started before the adoption, or an error: it knows them all
    elif timeout is None:
        latch.wait(None, self)
        original(self)
    elif type(limit := max(timeout, 0)) not in (int, float) or not 0 < limit <= _std.TIMEOUT_MAX:
        original(self, limit)  # no wait, a number of its own kind, or an error in this version's words
    else:
        deadline = monotonic() + limit
        if latch.wait(float(limit), self):
            original(self, max(deadline - monotonic(), 0))


# ---------------------------------------------------------------- the wait at exit


def _wait_for_the_others() -> None:
    """Sleeps at the door until every thread that is not a daemon has ended, also those that start meanwhile."""
    me = get_ident()
    while True:
        for thread in _std.enumerate():
            latch = thread.__dict__.get(_LATCH)
            mine = thread is _std._main_thread or thread._ident == me
            if latch is not None and not latch.is_set() and not thread._daemonic and not mine:
                latch.wait(None, thread, True)
                break
        else:
            return


def _thread_shutdown() -> None:
    # From 3.13 the standard `_shutdown` ends in this call; what comes before stays as it is.
    _set_latch(_std._main_thread)
    _wait_for_the_others()
    _original["_thread_shutdown"]()


def _shutdown() -> None:
    """Called by the interpreter at exit: runs what `_register_atexit` took, then waits for all but the daemons."""
    # 3.11 and 3.12 take the locks of thread states in one function, so there is no place to come in between: the same
    # steps in the same order, with the sleep at the door before each round of locks.
    main = _std._main_thread
    if main._is_stopped and getattr(_std, "_is_main_interpreter", _yes)():
        return
    _std._SHUTTING_DOWN = True
    for call in reversed(_std._threading_atexits):
        call()
    if main._ident == get_ident():  # not so if another thread was the first to import `threading`
        main._tstate_lock.release()
        main._stop()
    _set_latch(_std._main_thread)
    while True:
        _wait_for_the_others()
        with _std._shutdown_locks_lock:
            locks = list(_std._shutdown_locks)
            _std._shutdown_locks.clear()
        if not locks:
            return
        for lock in locks:
            lock.acquire()
            lock.release()


def _yes() -> bool:
    return True


# ---------------------------------------------------------------- fork


def _after_fork() -> None:
    """In the child: the threads that did not come along have ended, and the one that forked is the main thread."""
    _guard._at_fork_reinit()  # type: ignore[attr-defined]
    _core.set_main_thread(get_ident())
    main = _std._main_thread
    for thread in list(_std._dangling):
        # Never touch an old latch: a thread that is gone may have been inside it. Without one, `join` asks the
        # original.
        old = thread.__dict__.pop(_LATCH, None)
        if thread is main and (old is not None or _adopted):
            latch = main.__dict__[_LATCH] = _core.Latch()
            latch.promise()
            if not main.is_alive():  # forked at exit, after the main thread was marked as done
                latch.set()


def _wrappers() -> list[tuple[Any, str, Any]]:
    at_exit = ("_thread_shutdown", _thread_shutdown) if sys.version_info >= (3, 13) else ("_shutdown", _shutdown)
    return [
        (_std.Thread, "_bootstrap_inner", _bootstrap_inner),
        (_std.Thread, "join", join),
        (_std, *at_exit),
    ]


for _function in (_bootstrap_inner, join):
    _function.__module__ = "threading"
    _function.__qualname__ = f"Thread.{_function.__name__}"
_shutdown.__module__ = _thread_shutdown.__module__ = "threading"
