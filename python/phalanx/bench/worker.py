"""One side of the comparison: a process that runs samples when told to.

Started by file name in an isolated interpreter, not with `-m`: importing it as `phalanx.bench.worker` would load
phalanx into the side that has to stay plain. For the same reason it imports nothing from its own package.

    worker.py DEADLINE            the standard library as it is
    worker.py DEADLINE FOLDER     phalanx, found in FOLDER unless installed, patched in before anything else

Requests come as one JSON object per line on stdin, each is answered by one line on stdout.
"""

import faulthandler
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any


def arm(seconds: float) -> None:
    """Have the process print where every thread stands and end, if the next step takes longer than that.

    This clock is a C thread: it also goes off when no Python code can run any more.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)


def state() -> dict[str, Any]:
    """Who we are, so that a reader can check that each side is what it claims to be."""
    phalanx = sys.modules.get("phalanx")
    return {
        "phalanx_imported": any(name.partition(".")[0] == "phalanx" for name in sys.modules),
        "phalanx_installed": phalanx is not None and phalanx.installed(),
        "phalanx_version": getattr(phalanx, "__version__", None),
    }


class Samples:
    """The case in hand."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {}

    def load(self, source: str) -> None:
        """Take up a case: run its text once, as a module."""
        # The last one is still here if the other side failed on it.
        self.drop()
        self.namespace = {"__name__": "case"}
        exec(compile(source, "<case>", "exec"), self.namespace)

    def run(self, rounds: int) -> int:
        """Take one sample and return its nanoseconds."""
        run = self.namespace["run"]
        # The collector stays on, since programs run with it; but no sample should pay for the garbage of another.
        gc.collect()
        begin = time.perf_counter_ns()
        run(rounds)
        return time.perf_counter_ns() - begin

    def drop(self) -> None:
        """Let the case go, with the threads it keeps."""
        close = self.namespace.pop("close", None)
        if close is not None:
            close()
        self.namespace = {}


def serve(deadline: float) -> None:
    """Answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a case prints must not get between the answers.
    os.dup2(2, 1)
    samples = Samples()
    verbs: dict[str, Callable[..., Any]] = {
        "state": state,
        "load": samples.load,
        "run": samples.run,
        "drop": samples.drop,
    }
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        arm(deadline)
        try:
            answer = {"value": verbs[verb](*arguments)}
        except BaseException as error:
            traceback.print_exc()
            answer = {"error": "".join(traceback.format_exception_only(error)).strip()}
        faulthandler.cancel_dump_traceback_later()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main(arguments: list[str]) -> None:
    """Become one of the two sides, then serve."""
    deadline = float(arguments[0])
    arm(deadline)
    if len(arguments) > 1:
        folder = arguments[1]
        if folder not in sys.path:
            sys.path.append(folder)
        import phalanx

        phalanx.install()
    serve(deadline)


if __name__ == "__main__":
    main(sys.argv[1:])
