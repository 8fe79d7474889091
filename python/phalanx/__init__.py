"""Python's `threading`, `queue` and `concurrent.futures`, rebuilt in Rust under the same names.

    import phalanx
    phalanx.install()                 # the standard modules now run on phalanx, everywhere in this process

or put `phalanx.` in front of an import (`from phalanx import threading`), or type `phalanx run program.py`.

A wait that can never end raises `phalanx.DeadlockError` in one of the threads involved and names who waits for whom.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = [
    "DeadlockError",
    "OwnerDied",
    "PhalanxError",
    "RemoteError",
    "StartError",
    "WorkerDied",
    "__version__",
    "get_reusable_executor",
    "install",
    "installed",
    "uninstall",
]

from phalanx._joblib import announce as _announce

TYPE_CHECKING = False
if TYPE_CHECKING:
    from phalanx._install import install as install
    from phalanx._install import installed as installed
    from phalanx._install import uninstall as uninstall
    from phalanx._pool_errors import RemoteError as RemoteError
    from phalanx._pool_errors import WorkerDied as WorkerDied
    from phalanx.concurrent.futures._reusable import get_reusable_executor as get_reusable_executor
    from phalanx.errors import DeadlockError as DeadlockError
    from phalanx.errors import OwnerDied as OwnerDied
    from phalanx.errors import PhalanxError as PhalanxError
    from phalanx.errors import StartError as StartError

# Loaded at first use, so that `import phalanx` costs next to nothing.
_HOMES = {
    "install": "phalanx._install",
    "installed": "phalanx._install",
    "uninstall": "phalanx._install",
    "DeadlockError": "phalanx.errors",
    "get_reusable_executor": "phalanx.concurrent.futures._reusable",
    "OwnerDied": "phalanx.errors",
    "PhalanxError": "phalanx.errors",
    "RemoteError": "phalanx._pool_errors",
    "StartError": "phalanx.errors",
    "WorkerDied": "phalanx._pool_errors",
}

_announce()


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'phalanx' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
