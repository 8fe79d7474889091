"""What tests of shared memory have in common."""

from __future__ import annotations

import gc
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

from phalanx import _core

core: Any = _core


def through_pickle(obj: Any) -> Any:
    return pickle.loads(ForkingPickler.dumps(obj))


def used() -> int:
    """Bytes of the arena that are in use, once there is no garbage left: a pool in a cycle takes two collections."""
    while gc.collect():
        pass
    bytes_in_use, _ = core.shared_usage()
    return int(bytes_in_use)
