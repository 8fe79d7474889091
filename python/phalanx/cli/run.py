"""`phalanx run`: the command line of the interpreter, for a program that is to run on phalanx.

The few options are read by hand: `argparse` would cost more time than all the rest of the start.
"""

from __future__ import annotations

import phalanx
from phalanx._settings import DEADLOCK_MODES
from phalanx.cli import misuse, program

USAGE = "usage: phalanx run [--deadlock raise|report|off] [SCRIPT | -m MODULE | -c CODE | -] [ARGUMENTS...]"

HELP = f"""{USAGE}

Run a Python program, unmodified, on phalanx. It sees what it would see under `python`: its arguments, `__main__`,
`sys.path`, standard input, tracebacks and exit code.

what to run:
  SCRIPT         a file, or a directory or zip file with a `__main__.py`
  -m MODULE      a module or package, looked for on `sys.path`
  -c CODE        the program itself
  -              a program from standard input; so does no program at all
  What follows belongs to the program.

options:
  --deadlock raise   a wait that can never end raises phalanx.DeadlockError in one thread involved (the default)
  --deadlock report  it is printed on standard error, and the threads stay as they are
  --deadlock off     nobody looks
  -h, --help         print this help

environment:
  PHALANX_DEADLOCK   the same choice, where the option is not given

The interpreter's own options go before: `python -X dev -m phalanx run SCRIPT`."""

INTERPRETER_OPTIONS = "bBdEhiIOPqsSuvVWxX"
"""The single-letter options of `python`: found here, they deserve a better answer than "unknown"."""


class Misuse(Exception):
    """The command line makes no sense: what is wrong, and a hint."""

    def __init__(self, what: str, hint: str = "`phalanx run --help` explains the options") -> None:
        super().__init__(what)
        self.hint = hint


class Request:
    """A command line, understood: the choice about deadlocks, the kind of program, what names it, its arguments."""

    __slots__ = ("arguments", "deadlock", "kind", "subject")

    def __init__(self, arguments: list[str]) -> None:
        """Reads a command line; raises `Misuse` where it cannot."""
        self.deadlock: str | None = None
        self.kind = "stdin"
        self.subject = ""
        words = list(arguments)
        while words:
            word = words.pop(0)
            if word == "-":
                self.subject = "-"
            elif word == "--" and words:
                self.kind, self.subject = "script", words.pop(0)
            elif word == "--":
                continue
            elif word in ("-h", "--help"):
                self.kind = "help"
            elif word.startswith("--"):
                self._long_option(word, words)
                continue
            elif word[:2] in ("-m", "-c"):
                self.kind = "module" if word[1] == "m" else "code"
                self.subject = word[2:] or _value_of(word, words)
            elif word.startswith("-"):
                raise _unknown(word)
            else:
                self.kind, self.subject = "script", word
            break
        self.arguments = words

    def _long_option(self, word: str, words: list[str]) -> None:
        name, given, value = word.partition("=")
        if name != "--deadlock":
            raise _unknown(word)
        choice = value if given else _value_of(name, words)
        if choice not in DEADLOCK_MODES:
            raise Misuse(f"`--deadlock` is one of {', '.join(DEADLOCK_MODES)}, not {choice!r}")
        self.deadlock = choice


def main(arguments: list[str]) -> int:
    """Runs the program that the command line names. Returns its exit code, if it ends by itself."""
    try:
        request = Request(arguments)
    except Misuse as problem:
        return misuse("phalanx run", str(problem), USAGE, problem.hint)
    if request.kind == "help":
        print(HELP)
        return 0
    try:
        phalanx.install(deadlock=request.deadlock)
    except ValueError as problem:
        return misuse("phalanx run", str(problem), USAGE, "the environment is the place to look")
    if request.kind == "stdin":
        return program.run_stdin(request.subject, request.arguments)
    start = {"script": program.run_script, "module": program.run_module, "code": program.run_code}[request.kind]
    return start(request.subject, request.arguments)


def _value_of(option: str, words: list[str]) -> str:
    if not words:
        raise Misuse(f"`{option}` wants a value")
    return words.pop(0)


def _unknown(word: str) -> Misuse:
    what = f"unknown option `{word}`"
    if not word.startswith("--") and word[1] in INTERPRETER_OPTIONS:
        return Misuse(what, f"an option of the interpreter goes before: `python {word} -m phalanx run ...`")
    if word.startswith("--"):
        return Misuse(what, "options of the program go after its name; `phalanx run --help` lists ours")
    return Misuse(what)
