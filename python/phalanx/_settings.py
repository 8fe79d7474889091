"""Every `PHALANX_*` variable, each documented and checked in one place."""

from __future__ import annotations

import os

DEADLOCK_MODES = ("raise", "report", "off")
ORPHAN_RULES = ("end", "keep")
SPAWN_WAYS = ("template", "exec")


def deadlock_mode() -> str:
    """`PHALANX_DEADLOCK`: what happens when a wait can never end. "raise" (the default), "report" or "off".

    Raises ValueError for anything else.
    """
    return _one_of("PHALANX_DEADLOCK", DEADLOCK_MODES)


def orphan_rule() -> str:
    """`PHALANX_ORPHANS`: what becomes of child processes when their parent is gone. "end" (the default) or "keep".

    Raises ValueError for anything else.
    """
    return _one_of("PHALANX_ORPHANS", ORPHAN_RULES)


def spawn_way() -> str:
    """`PHALANX_SPAWN`: how the start method `spawn` gets a fresh interpreter. "template" (the default) or "exec".

    With "template" one interpreter is started and copied for each process, with "exec" each process starts its own, as
    in the standard library. Raises ValueError for anything else.
    """
    return _one_of("PHALANX_SPAWN", SPAWN_WAYS)


def queue_memory() -> int:
    """`PHALANX_QUEUE_MEMORY`: bytes that large objects in one queue or pipe may fill; unset, a quarter of the memory.

    Small objects (up to 8 KiB pickled) have 256 MiB of their own. A put beyond either waits for a get. Raises
    ValueError for anything but a positive number.
    """
    global _queue_memory
    value = os.environ.get("PHALANX_QUEUE_MEMORY", "")
    if not value:
        if not _queue_memory:
            _queue_memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
        return _queue_memory
    if not value.isdigit() or int(value) == 0:
        raise ValueError(f"PHALANX_QUEUE_MEMORY must be a positive number of bytes, not {value!r}")
    return int(value)


_queue_memory = 0


def blas_threads() -> int | None:
    """`PHALANX_BLAS_THREADS`: threads of BLAS and OpenMP in each worker of a pool; unset (None), cores / workers.

    0 leaves them as they are. Raises ValueError for anything but a number.
    """
    value = os.environ.get("PHALANX_BLAS_THREADS", "")
    if not value:
        return None
    if not value.isdigit():
        raise ValueError(f"PHALANX_BLAS_THREADS must be a number of threads or 0, not {value!r}")
    return int(value)


def _one_of(name: str, values: tuple[str, ...]) -> str:
    """The value of a variable; the first of `values` is the one for an empty or missing variable."""
    value = os.environ.get(name, "") or values[0]
    if value not in values:
        *most, last = map(repr, values)
        raise ValueError(f"{name} must be {', '.join(most)} or {last}, not {value!r}")
    return value
