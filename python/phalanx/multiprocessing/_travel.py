"""What travels to a worker and back by other ways than plain pickle, and words for what does not."""

from __future__ import annotations

import pickle

from phalanx.multiprocessing import _worker
from phalanx.multiprocessing._named import Packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from phalanx._pool_errors import RemoteError
    from phalanx.multiprocessing._job import Job

__all__ = ["by_value", "explain_task", "rebuilt", "told", "unreadable"]


def by_value(thing: Any) -> Packed:
    """Pickle by value what has a name that the other side may not know. Raises what cloudpickle raises."""
    import cloudpickle  # type: ignore[import-untyped]

    return Packed(cloudpickle.dumps(thing, 5))


def explain_task(error: Exception, job: Job) -> None:
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
    return told(error, None, f"the result of {task} could not be loaded here: {name}: {error}")


def told(error: BaseException | None, remote: str | None, text: str) -> RemoteError:
    """An error with this text and this cause."""
    # Not at the top: the module of its base class is one that `install()` patches with a class made of this one.
    from phalanx._pool_errors import RemoteError

    if error is None:
        return RemoteError(text)
    whole = RemoteError(text, type_name=type(error).__name__, text=str(error), traceback=remote or "")
    whole.__cause__ = error
    return whole
