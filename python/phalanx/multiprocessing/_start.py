"""What phalanx adds to the start and the end of a process, whichever start method made it.

```text
parent                                              child
Popen ─ preparation_data ─── pickled first ───────► _Beginning: the arena, the standard modules on phalanx
      ─ the process object ───────────────────────► _bootstrap ─ process_begins: its name, its bond with the parent
join  ─ Popen.wait: the door                        run
      ─ Popen.poll: reaped ◄──── wait status ────── end
```

The machinery is the standard library's, with its module state: one `current_process()`, one set of children, one
resource tracker, one fork server. Contexts of `phalanx.multiprocessing` use the classes of this package; `adopt()` puts
them under the standard classes as well.
"""

from __future__ import annotations

import io
import os
import sys
from _thread import RLock as _RLock  # the original one
from multiprocessing import context as _std_context
from multiprocessing import process as _std_process
from multiprocessing import reduction

from phalanx import _core as _native

TYPE_CHECKING = False  # `typing` costs more to import than all of this module
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any

_core: Any = _native
_context: Any = _std_context  # private names are used below on purpose
_process: Any = _std_process
_MISSING: Any = object()

_guard = _RLock()  # who takes it says so first, by `_attend_forks`
_attends = False
_adopted = False
_changes: list[tuple[Any, str, Any, Any]] = []  # owner, name, old, new
_ahead: set[str] = set()  # modules that were loaded in a fork server or a template, and that a child may not want
last_words: _LastWords | None = None  # as long as this process has not begun
_lent = False  # a fork server: the standard modules are patched here, and in a child only if it is told so


# ---------------------------------------------------------------- the standard package, adopted


def adopt() -> None:
    """Make the processes of the standard `multiprocessing` those of phalanx, in place.

    Called again it catches up with the parts of the package that have been loaded since.
    """
    global _adopted
    from phalanx.multiprocessing import process

    _attend_forks()
    with _guard:
        done = {(id(owner), name) for owner, name, _, _ in _changes}
        for owner, name, ours in (*process.hooks(), *_spawn_hooks()):
            old = vars(owner).get(name, _MISSING)
            if (id(owner), name) not in done and old is not ours:
                _changes.append((owner, name, old, ours))
                setattr(owner, name, ours)
        _adopted = True


def release() -> None:
    """Undo `adopt()`: every name gets back what it had, unless somebody else has changed it since.

    Processes that run, and those that wait for them, finish as they began.
    """
    global _adopted
    _attend_forks()
    with _guard:
        for owner, name, old, ours in reversed(_changes):
            if vars(owner).get(name, _MISSING) is not ours:
                continue
            if old is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, old)
        _changes.clear()
        _adopted = False


def adopted() -> bool:
    """Whether the standard package is adopted now."""
    return _adopted


def _spawn_hooks() -> list[tuple[Any, str, Any]]:
    # Only for those who start processes in a way of their own, but from the standard preparation data.
    spawn = sys.modules.get("multiprocessing.spawn")
    return [] if spawn is None else [(spawn, "get_preparation_data", preparation_data)]


# ---------------------------------------------------------------- in the parent


def preparation_data(name: str, report: Any = None, quiet: bool = False) -> dict[str, Any]:
    """What a child needs to know before it can unpickle its process object, as a dict for `spawn.prepare`.

    `name` is that of the process. To `report` the child writes why it could not begin: a descriptor by its number in
    the child, or as `DupFd`; with `quiet` it says only there that it has no guard. Raises RuntimeError while a child
    imports its main module.
    """
    from multiprocessing import spawn

    standard = spawn.get_preparation_data
    if standard is preparation_data:
        standard = next(old for owner, _, old, ours in _changes if ours is preparation_data)
    data = standard(name)
    path = data.get("init_main_from_path")
    if path is not None and not os.path.exists(path):  # standard input, or a notebook's cell
        del data["init_main_from_path"]
    # Dicts keep their order: unpickled in this one.
    return {"phalanx.path": _ParentPath(data["sys_path"]), "phalanx": _Beginning(report, quiet), **data}


def mode_of_standard_modules() -> str | None:
    """How the standard modules run on phalanx: what happens at a deadlock, or None if they are their own."""
    module = sys.modules.get("phalanx._install")
    return _core.deadlock_mode() if module is not None and module.installed() else None


def unguarded(process: str, place: str, line: str) -> Exception:
    """The error for a child that ended because importing its modules started processes: at `place`, in `line`."""
    from phalanx import errors

    texts = errors.START_TEXTS
    text = "\n".join((texts["head.unguarded"], texts["place"], f"hint: {texts['hint.guard']}"))
    return errors.StartError(text.format(name=process, place=place, line=line), process, place, texts["hint.guard"])


def pickled_start(popen: Any, process: Any, report: Callable[[], Any]) -> memoryview:
    """What the child of `popen` is to begin with: the preparation data and its process object.

    From here on the child is in the tree, as the process `popen._number`, and holds what is pickled for it: whoever
    waits at the other end of a pipe learns if it dies, or never begins. For `report` see `preparation_data`; it is made
    here.
    """
    buffer = io.BytesIO()
    before = _core.pickle_for(popen._number)
    _context.set_spawning_popen(popen)
    try:
        quiet = getattr(process, "_is_worker", False)  # whose pool tells
        data = preparation_data(process._name, report(), quiet)
        if getattr(process, "_without_main", False):
            for name in ("init_main_from_path", "init_main_from_name"):
                data.pop(name, None)
        reduction.dump(data, buffer)
        reduction.dump(process, buffer)
    finally:
        _context.set_spawning_popen(None)
        _core.pickle_for(before)
    return buffer.getbuffer()


def hold_ends(popen: Any, parent_end: int, *others: int) -> None:
    """Give descriptors to the object of a process: they are closed with it.

    The child notices by the end of `parent_end` that this process is gone, so nobody else may keep a copy: it is closed
    in every process that is forked from now on.
    """
    from multiprocessing import util

    _core.hold_end(parent_end)
    popen.finalizer = util.Finalize(popen, _core.close_ends, (parent_end, *others))


def _after_fork() -> None:
    global _lent
    _guard._at_fork_reinit()  # type: ignore[attr-defined]
    if _lent:
        import phalanx

        _lent = False
        phalanx.uninstall()
        release()


def _attend_forks() -> None:
    # Not from the start: each hook costs each child pages that it has to copy.
    global _attends
    if not _attends:
        os.register_at_fork(after_in_child=_after_fork)
        _attends = True


class _ParentPath:
    """Gives a child the parent's `sys.path`: phalanx may be found only there.

    The standard preparation does it as well, with the same list, but later. It pickles to functions of the standard
    library.
    """

    def __init__(self, path: list[str]) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (_System(), "path", self.path)


class _System:
    """Unpickles to the module `sys`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("sys",)


class _Beginning:
    """Sets up phalanx in a child when it is unpickled there."""

    def __init__(self, report: Any, quiet: bool) -> None:
        self.report = report
        self.quiet = quiet

    def __reduce__(self) -> tuple[Any, ...]:
        spawning = _context.get_spawning_popen() is not None
        tree = reduction.DupFd(_core.tree_fd()) if spawning else None
        number = getattr(_context.get_spawning_popen(), "_number", 0)
        return _begin, (tree, number, mode_of_standard_modules(), _adopted, self.report, self.quiet)


# ---------------------------------------------------------------- in the child


def _begin(tree: Any, number: int, mode: str | None, standard_too: bool, report: Any, quiet: bool) -> None:
    global last_words
    if _ahead:
        _make_room()
    if tree is not None:
        fd = tree.detach()
        _core.tree_attach(fd, number)
        os.close(fd)
    if mode is not None:
        import phalanx

        phalanx.install(deadlock=mode)
    if standard_too:
        adopt()
    if report is not None:
        sys.excepthook = last_words = _LastWords(report, quiet)


def lend(mode: str | None, usual: Iterable[str], tree: int | None = None) -> None:
    """In a fork server or a template: load and patch what each child would load and patch.

    `mode` is that of the standard modules in the parent; `usual` are the modules that a child has anyway. `tree` is a
    fork server's descriptor of the arena: it may load modules of the program, which share what they make with the
    children. These begin with the standard modules as they were, unless they are told something else.
    """
    global _lent
    import pkgutil  # noqa: F401  for `runpy`, which imports the main module; 10 ms with what it needs itself

    import phalanx.multiprocessing

    _attend_forks()
    if tree is not None:
        _core.tree_attach(tree)
        os.close(tree)
    if mode is not None:
        phalanx.install(deadlock=mode)
        adopt()
        _lent = tree is not None
    _ahead.update({name.partition(".")[0] for name in sys.modules} - {name.partition(".")[0] for name in usual})
    _ahead.discard("phalanx")


def _make_room() -> None:
    """Takes out modules that were loaded ahead of time where the program has one of its own under that name."""
    from importlib.machinery import PathFinder

    before = sys.path[: sys.path.index(_LIBRARY)] if _LIBRARY in sys.path else sys.path
    for name in _ahead:
        if PathFinder.find_spec(name, before) is not None:
            for loaded in [module for module in sys.modules if f"{module}.".startswith(f"{name}.")]:
                del sys.modules[loaded]
    _ahead.clear()


class _LastWords:
    """Stands in for `sys.excepthook` until a child begins: tells the parent why it did not."""

    def __init__(self, report: Any, quiet: bool) -> None:
        self.hook = sys.excepthook
        self.quiet = quiet
        self.own = not isinstance(report, int)
        self.report: int = report.detach() if self.own else report
        self.identity = _identity(self.report)

    def end(self) -> None:
        """The child begins."""
        global last_words
        last_words = None
        if sys.excepthook is self:
            sys.excepthook = self.hook
        if self.own:
            os.close(self.report)

    def __call__(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        words = _place_without_guard(traceback)
        if words is None or not self.quiet:
            self.hook(kind, error, traceback)
        if words is None:
            return
        try:
            if _identity(self.report) == self.identity:  # the program may have closed it, and opened something else
                os.write(self.report, words.encode(errors="backslashreplace"))
        except OSError:
            pass  # the parent is gone


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _place_without_guard(traceback: TracebackType | None) -> str | None:
    """Where importing the main module started a process or chose a start method: the place, and the line itself."""
    from traceback import extract_tb

    summary = extract_tb(traceback)
    names = {frame.name for frame in summary if _is_ours(frame.filename)}
    if not {"_check_not_importing_main", "set_start_method"} & names:
        return None
    for frame in reversed(summary):
        if not _is_ours(frame.filename):
            return f"{frame.filename}:{frame.lineno}\n{frame.line}"[:2000]
    return None


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OUR_FOLDERS)


_LIBRARY = os.path.dirname(os.__file__)
_OUR_FOLDERS = tuple(
    os.path.join(folder, "")
    for folder in (
        os.path.dirname(__file__),
        os.path.join(_LIBRARY, "multiprocessing"),
        os.path.join(_LIBRARY, "concurrent", "futures"),
    )
)
