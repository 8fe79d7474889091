"""One side of the comparison: a process that runs samples when told to.

Started by file name in an isolated interpreter, not with `-m`: importing it as `phalanx.bench.worker` would load
phalanx into the side that has to stay plain. For the same reason it imports nothing from its own package.

    worker.py DEADLINE                    the standard library as it is
    worker.py DEADLINE FOLDER             phalanx, found in FOLDER unless installed, patched in before anything else
    worker.py DEADLINE FOLDER --import    phalanx is there to be imported, nothing is patched

Requests come as one JSON object per line on stdin, each is answered by one line on stdout.
"""

import faulthandler
import gc
import importlib.util
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType
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
        # The extension: the package itself may be there, because joblib was told that it has a backend.
        "phalanx_imported": "phalanx._core" in sys.modules,
        "phalanx_installed": phalanx is not None and phalanx.installed(),
        "phalanx_version": getattr(phalanx, "__version__", None),
    }


def lacks(modules: list[str]) -> list[str]:
    """Which of these modules cannot be imported here, as far as one can tell without trying."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


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

    def program(self, path: str) -> None:
        """Take up a case that is a file, as if it had been started: children of `spawn` import it by its name."""
        self.drop()
        # Only a module that stays in place can be the main one, and the script in which we are must outlive it.
        main = ModuleType("__main__")
        main.__file__ = path
        sys.modules["__main__"] = main
        self.namespace = main.__dict__
        with open(path, encoding="utf-8") as source:
            exec(compile(source.read(), path, "exec"), self.namespace)

    def run(self, rounds: int) -> int:
        """Take one sample: its nanoseconds, unless the case says itself what it measured."""
        run = self.namespace["run"]
        # The collector stays on, since programs run with it; but no sample should pay for the garbage of another.
        gc.collect()
        begin = time.perf_counter_ns()
        measured: int | None = run(rounds)
        took = time.perf_counter_ns() - begin
        return took if measured is None else measured

    def drop(self) -> None:
        """Let the case go, with the threads it keeps."""
        close = self.namespace.pop("close", None)
        if close is not None:
            close()
        self.namespace = {}


def serve(deadline: float) -> None:
    """Answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # A child must not keep the pipe open: its end is how the other side learns of ours. Once: a child of the child may
    # have something else there.
    pipe = [answers.fileno()]
    os.register_at_fork(after_in_child=lambda: os.close(pipe.pop()) if pipe else None)
    # Whatever a case prints must not get between the answers.
    os.dup2(2, 1)
    samples = Samples()
    verbs: dict[str, Callable[..., Any]] = {
        "state": state,
        "lacks": lacks,
        "load": samples.load,
        "program": samples.program,
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
        if "--import" not in arguments:
            import phalanx

            phalanx.install()
    serve(deadline)


if __name__ == "__main__":
    main(sys.argv[1:])
