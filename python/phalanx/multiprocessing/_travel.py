"""What travels to a worker and back by other ways than plain pickle, and words for what does not."""

from __future__ import annotations

import os
import pickle
import sys
from itertools import count

from phalanx import _core
from phalanx.multiprocessing import _worker
from phalanx.multiprocessing._named import Packed
from phalanx.multiprocessing._worker import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from phalanx._pool_errors import RemoteError
    from phalanx.multiprocessing._job import Job

__all__ = [
    "Luggage",
    "by_value",
    "caused_by",
    "either_way",
    "explain_task",
    "goes_by_value",
    "rebuilt",
    "told",
    "unreadable",
]

_FUNCTION = type(lambda: None)
_shared_numbers = count(-1, -1)  # of shared objects; those of functions go up


def goes_by_value(method: str) -> bool:
    """Say whether functions of the main module go by value: no worker can import `-c`, stdin or a notebook."""
    main: Any = sys.modules.get("__main__")
    if method == "fork" or getattr(main, "__spec__", None) is not None:
        return False
    return not os.path.exists(getattr(main, "__file__", None) or "")


def by_value(thing: Any) -> Packed:
    """Pickle by value what has a name that the other side may not know. Raises what cloudpickle raises."""
    import cloudpickle  # type: ignore[import-untyped]

    return Packed(cloudpickle.dumps(thing, 5))


def either_way(put: Callable[[Any], Any], pack: Callable[[], Any], thing: Any) -> Any:
    """Put what `pack()` makes, or where pickle refuses that, the `thing` by value. Raises what pickle raises."""
    try:
        return put(pack())
    except (pickle.PicklingError, AttributeError, TypeError) as refused:
        try:
            whole = by_value(thing)
        except Exception:  # not by value either, or cloudpickle is missing: what pickle said is clearer
            raise refused from None
        return put(whole)


class _Uncallable:
    """An int in the place of a function, which a worker would take for the number of one."""

    def __init__(self, number: Any) -> None:
        self._number = number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._number(*args, **kwargs)


class Luggage:
    """What goes to each worker of a pool once, and in tasks by its number: functions of modules, shared objects."""

    def __init__(self, by_value: bool) -> None:
        self.by_value = by_value  # nothing that has a name in this process has one in a worker
        self._table = _core.SharedTable(True)
        self._functions: dict[Any, int] = {}
        self._numbers = count(1)

    @property
    def place(self) -> Any:
        """Where a worker finds it."""
        return self._table.place()

    def pack(self, job: Job) -> Any:
        """The task of a job as it goes to a worker: with the number of its function, or all of it by value."""
        mode, function, *rest = task = job._task
        if type(function) is int:
            return (mode, _Uncallable(function), *rest)
        if job._by_value or self.by_value:
            return by_value(task)
        if type(function) is not _FUNCTION:
            return task
        number = self._functions.get(function)
        if number is None:
            number = next(self._numbers)  # another thread, or a signal handler, may be here too
            self._table.set(number, function)
            number = self._functions.setdefault(function, number)
        return (mode, number, *rest)

    def share(self, thing: Any, number: int | None = None) -> int:
        """Put an object in; return its number: the given one, or one that no other object of this process has."""
        if number is None:
            number = next(_shared_numbers)
        either_way(
            lambda packed: self._table.set(number, packed),
            lambda: by_value(thing) if self.by_value else thing,
            thing,
        )
        return number


def explain_task(error: BaseException, job: Job) -> None:
    """Note on what pickling has raised which part of the task it speaks of."""
    from phalanx.multiprocessing._why import explain

    what = job._describe()
    explain(error, job._first, f"the arguments of {what}")
    if job._second:
        explain(error, job._second, f"the keywords of {what}")


def rebuilt(failure: _worker.Failure, task: str) -> tuple[BaseException, str | None]:
    """The exception of a failure, and the worker's traceback."""
    from phalanx._pool_errors import RemoteError

    packed, trace, name, text, what = failure
    if what == _worker.LOADING:
        error: BaseException = RemoteError(
            f"{task} could not be loaded by a worker: {name}: {text}", type_name=name, text=text, traceback=trace
        )
        return error, trace
    if packed is not None:
        try:
            error = pickle.loads(packed)
        except Exception:
            pass
        else:
            return error, trace
    message = (
        f"{task} raised {name}: {text}\nhint: this exception cannot be pickled; the worker's traceback is its cause"
    )
    return RemoteError(message, type_name=name, text=text, traceback=trace), trace


def unreadable(error: BaseException, task: str) -> RemoteError:
    """The error of a task whose result could not be loaded here."""
    name = type(error).__name__
    return told(error, None, f"the result of {task} could not be loaded here: {name}: {text_of(error)}")


def caused_by(error: BaseException, cause: BaseException) -> None:
    """Set the cause of an exception, also of one that lets nobody set its attributes."""
    BaseException.__dict__["__cause__"].__set__(error, cause)


def told(error: BaseException | None, remote: str | None, text: str) -> RemoteError:
    """An error with this text and this cause."""
    # Not at the top: the module of its base class is one that `install()` patches with a class made of this one.
    from phalanx._pool_errors import RemoteError

    if error is None:
        return RemoteError(text)
    whole = RemoteError(text, type_name=type(error).__name__, text=text_of(error), traceback=remote or "")
    whole.__cause__ = error
    return whole
