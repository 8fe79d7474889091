"""Runs a program as the interpreter itself would: in a new `__main__`, as if nobody were underneath.

The interpreter's own `main` prepares `sys.argv`, `sys.path[0]` and the module `__main__`, runs the program in that
module's namespace, then ends: it joins the threads, calls `atexit`, flushes. Here the first half is done in the same
order and with the same values; the second half is left to the interpreter, which does it once we return.

An exception that leaves the program keeps going up through our own frames, so that the interpreter ends the way it
always does, be it by an exit code or by SIGINT. Only its traceback must not show us: for that one moment
`sys.excepthook` is ours, cuts our frames off, and hands over to the hook that the program left there.

Two things differ from `python` on purpose. `__file__` stays in `__main__` until the interpreter ends (it deletes it
once a script's last line ran, while other threads may still read it). And `sys._getframe()` has callers.
"""

from __future__ import annotations

import builtins
import os
import sys

from phalanx.cli import source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")

CANNOT_OPEN = 2
"""The interpreter's exit code for a script that it cannot open."""


def run_script(path: str, arguments: list[str]) -> int:
    """`python PATH`: a file with source or compiled code, or a directory or archive that holds a `__main__`."""
    filename = _absolute(path)
    if _is_import_path(filename):
        _set_arguments(path, arguments)
        _replace_first_path(None)
        sys.path.insert(0, filename)
        _new_main()
        _run_as_main("__main__", False)
        return 0
    try:
        with open(filename, "rb") as file:
            content = file.read()
    except OSError as error:
        _complain(f"{sys.orig_argv[0]}: can't open file {filename!r}: [Errno {error.errno}] {error.strerror}")
        return CANNOT_OPEN
    _set_arguments(path, arguments)
    _replace_first_path(_directory_of(filename))

    from importlib.machinery import SourceFileLoader, SourcelessFileLoader

    if filename.endswith(".pyc") or source.is_compiled(content):
        namespace = _new_main(SourcelessFileLoader("__main__", filename), filename)
        _run(source.load_compiled, content, filename, namespace)
    else:
        namespace = _new_main(SourceFileLoader("__main__", filename), filename)
        _run(source.compile_file, content, filename, namespace)
    return 0


def run_code(command: str, arguments: list[str]) -> int:
    """`python -c COMMAND`."""
    _set_arguments("-c", arguments)
    _replace_first_path("")
    _run(source.compile_command, command + "\n", "<string>", _new_main())
    return 0


def run_stdin(name: str, arguments: list[str]) -> int:
    """`python -`, or `python` alone: all of standard input is the program; at a terminal, a prompt."""
    _set_arguments(name, arguments)
    _replace_first_path("")
    if sys.stdin is not None and sys.stdin.isatty() and not sys.flags.ignore_environment:
        return _prompt()
    content = b"" if sys.stdin is None else sys.stdin.buffer.read()
    _run(source.compile_file, content, "<stdin>", _new_main(file="<stdin>"))
    return 0


def run_module(name: str, arguments: list[str]) -> int:
    """`python -m NAME`."""
    _set_arguments("-m", arguments)
    try:
        _replace_first_path(os.getcwd())
    except OSError:  # the working directory is gone; the interpreter goes on without it
        _replace_first_path(None)
    _new_main()
    _run_as_main(name, True)
    return 0


def _prompt() -> int:
    """Leaves an empty `__main__` to the interpreter's own prompt.

    The interpreter asks for PYTHONINSPECT once more when the program has ended; the hook that it calls before the first
    prompt takes the variable away again, so that no child process inherits it.
    """
    startup = getattr(sys, "__interactivehook__", None)

    def before_first_prompt() -> None:
        os.environ.pop("PYTHONINSPECT", None)
        if startup is not None:
            startup()

    _complain(f"Python {sys.version} on {sys.platform}, with phalanx")
    _new_main()
    os.environ["PYTHONINSPECT"] = "1"
    sys.__interactivehook__ = before_first_prompt
    return 0


def _complain(line: str) -> None:
    if sys.stderr is not None:  # closed descriptors make it None, and then the interpreter is silent as well
        print(line, file=sys.stderr)


# What the interpreter prepares


def _set_arguments(first: str, rest: list[str]) -> None:
    sys.argv[:] = [first, *rest]


def _replace_first_path(entry: str | None) -> None:
    """Takes away the `sys.path[0]` by which phalanx itself was started, and puts the program's there.

    With `python -P` the interpreter prepends neither.
    """
    if sys.flags.safe_path:
        return
    del sys.path[:1]
    if entry is not None:
        sys.path.insert(0, entry)


def _new_main(loader: object = None, file: str | None = None) -> dict[str, object]:
    """Puts a new `__main__` into `sys.modules` and returns its namespace, keys in the interpreter's order."""
    main = type(sys)("__main__")
    namespace = main.__dict__
    namespace["__loader__"] = loader or builtins.__loader__
    if "__annotations__" in vars(sys.modules["__main__"]):  # a fresh __main__ has it up to 3.13
        namespace["__annotations__"] = {}
    namespace["__builtins__"] = builtins
    if file is not None:
        namespace["__file__"] = file
        namespace["__cached__"] = None
    sys.modules["__main__"] = main
    return namespace


def _absolute(path: str) -> str:
    """The path made absolute as the interpreter does it: by a prefix, nothing normalised."""
    try:
        return os.path.join(os.getcwd(), path)
    except OSError:  # the working directory is gone
        return path


def _directory_of(filename: str) -> str:
    """Where a script lies once links are followed; what is no real path, a pipe say, lies where it is named."""
    try:
        return os.path.dirname(os.path.realpath(filename, strict=True))
    except OSError:
        return os.path.dirname(filename)


def _is_import_path(path: str) -> bool:
    """Whether an import hook claims the path, as for a directory or an archive: then its `__main__` is the program."""
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


# The run, and its last words


def _run(read: Callable[[T, str], CodeType], content: T, filename: str, namespace: dict[str, object]) -> None:
    """Reads and runs the code of a program; then, as the interpreter does here, flushes what was printed."""
    try:
        code = _as_program(read, content, filename)
        _as_program(exec, code, namespace)
    finally:
        for stream in (sys.stderr, sys.stdout):
            try:
                stream.flush()
            except Exception:
                pass  # the interpreter flushes once more at its end, and reports then


def _run_as_main(name: str, alter_argv: bool) -> None:
    """Runs a module as `__main__`, by the function that the interpreter calls for it: same frames, same words."""
    import runpy

    _as_program(runpy._run_module_as_main, name, alter_argv)  # type: ignore[attr-defined]


def _as_program(part: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
    """Calls a part of the program; an exception that leaves it will be reported without our frames."""
    try:
        return part(*arguments, **keywords)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook = _LastWords()
        raise


class _LastWords:
    """Stands in for `sys.excepthook` while an exception is on its way from the program to the interpreter."""

    def __init__(self) -> None:
        self.hook = vars(sys).get("excepthook", self)

    def __call__(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        traceback = _without_us(traceback)
        sys.last_traceback = error.__traceback__ = traceback
        if self.hook is self:
            del sys.excepthook
            _complain("sys.excepthook is missing")
            sys.__excepthook__(kind, error, traceback)
            return
        sys.excepthook = self.hook
        try:
            self.hook(kind, error, traceback)
            return
        except SystemExit:
            raise
        except BaseException as another:
            second = another.with_traceback(_without_us(another.__traceback__))
        _complain("Error in sys.excepthook:")
        sys.__excepthook__(type(second), second, second.__traceback__)
        _complain("\nOriginal exception was:")
        sys.__excepthook__(kind, error, traceback)


def _without_us(traceback: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins where our own frames end."""
    ours = False
    while traceback is not None:
        here = traceback.tb_frame.f_globals.get("__package__") == __package__
        if ours and not here:
            break
        ours = ours or here
        traceback = traceback.tb_next
    return traceback
