"""Every `PHALANX_*` variable, each documented and checked in one place."""

from __future__ import annotations

import os

DEADLOCK_MODES = ("raise", "report", "off")


def deadlock_mode() -> str:
    """`PHALANX_DEADLOCK`: what happens when a wait can never end. "raise" (the default), "report" or "off".

    Raises ValueError for anything else.
    """
    mode = os.environ.get("PHALANX_DEADLOCK", "") or "raise"
    if mode not in DEADLOCK_MODES:
        raise ValueError(f"PHALANX_DEADLOCK must be 'raise', 'report' or 'off', not {mode!r}")
    return mode
