"""Which classes of CPython's tests run every time, and which only with `--all`.

The tests of `multiprocessing` exist once for each start method and once for each kind of object: processes, threads
(`multiprocessing.dummy`) and proxies of a manager. All of it runs with "fork". Another start method changes how an
object reaches a child (pickled, by a fresh interpreter) and what a child inherits: for that the usual run takes the
classes that send something to a child, and leaves out threads and proxies, which do not know the start method. Process
pools run with "fork".
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

USUAL = {
    "multiprocessing_spawn": (
        "WithProcessesTest[ABCELQSV]*",
        "WithProcessesTestPicklingConnections",
        "WithProcessesTestProcess",
        "WithManagerTestQueue",
        "MiscTestCase",
        "TestCloseFds",
        "TestFlags",
        "TestNamedResource",
        "TestNoForkBomb",
        "TestSimpleQueue",
        "TestStartMethod",
    ),
    "multiprocessing_forkserver": (
        "WithProcessesTestArray",
        "WithProcessesTestBarrier",
        "WithProcessesTestConnection",
        "WithProcessesTestPicklingConnections",
        "WithProcessesTestProcess",
        "WithProcessesTestQueue",
        "TestCloseFds",
        "TestStartMethod",
    ),
}
LONG = (
    "test.test_concurrent_futures.*.ProcessPoolSpawn*",
    "test.test_concurrent_futures.*.ProcessPoolForkserver*",
)
# Reasons of tests that do not fit the kind of object or the start method, whatever they run on.
UNFIT = re.compile("test not appropriate for|only makes sense with processes|start_method='|only run in|only relevant")


def is_usual(module: str, name: str) -> bool:
    """Whether a class runs without `--all`."""
    if module in USUAL:
        return any(fnmatchcase(name, pattern) for pattern in USUAL[module])
    return not any(fnmatchcase(f"{module}.{name}", pattern) for pattern in LONG)


def is_unfit(reason: str) -> bool:
    """Whether a test that skips itself for this reason would do so on the plain standard library too."""
    return UNFIT.search(reason) is not None
