"""What holds for every test."""

from __future__ import annotations

import signal

# A shell has its background jobs ignore Ctrl-C, and so would all that the tests start; some are about it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
