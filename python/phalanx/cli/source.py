"""From the bytes of a program to its code, with the interpreter's words for what is wrong with them.

The interpreter reads a script line by line; we hand the whole of it to `compile`. The two agree but for bytes that
are no text: there the file reader names the line, and that is what a user of `python` knows.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

PYC_HEADER = 16
"""Bytes before the code in a compiled file: magic number, flags, time and size (or hash) of the source."""


def is_compiled(content: bytes) -> bool:
    """Whether this is a compiled file of this very version of Python."""
    if content[2:4] != b"\r\n":  # every magic number ends so, and few sources look so: spare them the import
        return False
    from importlib.util import MAGIC_NUMBER

    return content.startswith(MAGIC_NUMBER)


def load_compiled(content: bytes, _filename: str) -> CodeType:
    """The code in a compiled file."""
    if not is_compiled(content):
        raise RuntimeError("Bad magic number in .pyc file")
    import marshal

    code = marshal.loads(content[PYC_HEADER:])
    if not isinstance(code, type(load_compiled.__code__)):
        raise RuntimeError("Bad code object in .pyc file")
    return code


def compile_file(content: bytes, filename: str) -> CodeType:
    """The code of a source file."""
    _check_text(content, filename)
    try:
        return compile(content, filename, "exec", dont_inherit=True)
    except SyntaxError as error:
        if error.lineno != 0:
            raise
        # No line: the declared encoding is unknown, or the file is not in it.
        known = error.msg.startswith("encoding problem: ")
        problem = error.msg if known else f"encoding problem: {_declared_encoding(content)}"
    raise SyntaxError(problem)


def compile_command(command: str, filename: str) -> CodeType:
    """The code of `-c`; from 3.13 on tracebacks show its lines, and from 3.14 on all of it may be indented."""
    if sys.version_info >= (3, 14):
        from textwrap import dedent

        command = dedent(command)
    code = compile(command, filename, "exec", dont_inherit=True)
    if sys.version_info >= (3, 13):
        import linecache

        key = code if hasattr(linecache, "_interactive_cache") else filename
        linecache._register_code(key, command, filename)  # type: ignore[attr-defined]
    return code


def _check_text(content: bytes, filename: str) -> None:
    """Raises what the interpreter raises for the first byte of a file that cannot be text."""
    try:
        content.decode()
        stray = -1
    except UnicodeDecodeError as error:
        stray = -1 if _declared_encoding(content) else error.start
    null = content.find(b"\0")
    if null < 0 and stray < 0:
        return
    first = min(place for place in (null, stray) if place >= 0)
    line = content.count(b"\n", 0, first) + 1
    if first == null:
        text = content[content.rfind(b"\n", 0, first) + 1 : first].decode("utf-8", "replace")
        raise SyntaxError("source code cannot contain null bytes", (filename, line, 0, text, line, 0))
    raise SyntaxError(
        f"Non-UTF-8 code starting with '\\x{content[first]:02x}' in file {filename} on line {line}, "
        "but no encoding declared; see https://peps.python.org/pep-0263/ for details"
    )


def _declared_encoding(content: bytes) -> str:
    """The encoding named in a comment on one of the first two lines, or ""."""
    import re

    for line in content.split(b"\n", 2)[:2]:
        found = re.match(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", line)
        if found:
            return found[1].decode()
        if line.strip() and not line.lstrip().startswith(b"#"):
            break
    return ""
