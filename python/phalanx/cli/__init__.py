"""The command line: `phalanx COMMAND [ARGUMENTS…]`.

Every command is a module with a `main(arguments) -> int`, imported only when it is asked for: what `phalanx run` loads
before the program's first line is paid by every program.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "run": ("phalanx.cli.run", "run a Python program on phalanx: faster, and never silent when it hangs"),
    "bench": ("phalanx.bench", "compare phalanx with the standard library on this machine"),
}
"""Name of a command: the module that does it, and one line about it."""

USAGE = "usage: phalanx COMMAND [ARGUMENTS...]"

MISUSE = 2
"""The exit code of a command line that we cannot read; the same as the interpreter's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says and returns the exit code; `arguments` is `sys.argv[1:]` unless given."""
    command, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or [""]
    if command in COMMANDS:
        from importlib import import_module

        return int(import_module(COMMANDS[command][0]).main(rest) or 0)
    if command in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if command in ("-V", "--version", "version"):
        print(version_text())
        return 0
    if not command:
        print(help_text(), file=sys.stderr)
        return MISUSE
    if command.startswith("-"):
        return misuse("phalanx", f"unknown option `{command}`", USAGE, "`phalanx --help` lists the commands")
    hint = "`phalanx --help` lists the commands; a program is run by `phalanx run SCRIPT`"
    return misuse("phalanx", f"unknown command `{command}`", USAGE, hint)


def help_text() -> str:
    """What `phalanx --help` prints."""
    commands = "\n".join(f"  {name:<8} {summary}" for name, (_, summary) in COMMANDS.items())
    return f"""{USAGE}

Threads, queues and futures that are fast and that never hang silently.

commands:
{commands}

options:
  -h, --help     print this help; `phalanx COMMAND --help` explains one command
  -V, --version  print the version"""


def version_text() -> str:
    """What `phalanx --version` prints."""
    from phalanx import __version__

    return f"phalanx {__version__} ({sys.implementation.name} {sys.version.split()[0]})"


def misuse(who: str, what: str, usage: str, hint: str) -> int:
    """Says on stderr what is wrong with a command line, and returns the exit code for it."""
    print(f"{who}: {what}\n{usage}\nhint: {hint}", file=sys.stderr)
    return MISUSE
