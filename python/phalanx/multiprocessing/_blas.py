"""The threads of BLAS and OpenMP in a worker: cores divided by workers.

All workers together fill the machine once. Libraries that a worker loads later read the variables of the environment.
Those that are loaded already (a forked worker has what its parent had, a program's main module brings others) are told
through threadpoolctl, if it is there.
"""

from __future__ import annotations

import os
import sys

from phalanx import _settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["VARIABLES", "hold", "share"]

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_own: int | None = None  # what this process, a worker itself, was given
_limits: Any = None  # threadpoolctl's; a limit is for as long as this process lives


def share(workers: int, cores: int) -> int | None:
    """How many threads each of `workers` may have; None: whatever the libraries like, for the user has decided."""
    chosen = _settings.blas_threads()
    if chosen is not None:
        threads = chosen or None
    elif _own is not None:
        threads = max(1, _own // workers)
    elif any(name in os.environ for name in VARIABLES):
        threads = None
    else:
        threads = max(1, cores // workers)
    return threads


def prepare() -> None:
    """Load threadpoolctl once, before workers are forked that would each load it."""
    if "numpy" in sys.modules:
        _controls()


def hold(threads: int | None) -> None:
    """In a worker, before its first task: hold its libraries to `threads`."""
    global _own, _limits
    if threads is None:
        return
    _own = threads
    for name in VARIABLES:
        os.environ[name] = str(threads)
    if "numpy" in sys.modules:
        controls = _controls()
        if controls is not None:
            _limits = controls.threadpool_limits(limits=threads)


def _controls() -> Any:
    try:
        import threadpoolctl
    except ImportError:
        return None
    return threadpoolctl
