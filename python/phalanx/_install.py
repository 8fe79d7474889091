"""`install()` and `uninstall()`: the standard modules patched in place, and put back exactly.

`_thread` and `threading` are patched at once. `queue` and `concurrent.futures` are patched as soon as both they and our
counterpart are loaded, so that a program pays only for what it imports. Names that other modules took before
(`from threading import Lock`) are found by identity in the modules loaded so far.

Nothing is ever imported while the guard is held: another thread may hold an import lock and be on its way to the guard.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock as _RLock  # the original one

from phalanx import _settings

TYPE_CHECKING = False  # `typing` costs more to import than all of this module
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_MISSING: Any = object()

_CLASSES = ("Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "RLock")
# Standard module, our module, and the names that change. A name that the standard module lacks is added.
_LAZY = (
    ("queue", "phalanx.queue", ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue", "Empty", "Full", "ShutDown")),
    ("concurrent.futures", "phalanx.concurrent.futures", ("Future", "ThreadPoolExecutor", "wait", "as_completed")),
    ("concurrent.futures.thread", "phalanx.concurrent.futures", ("ThreadPoolExecutor",)),
    ("concurrent.futures.process", "phalanx.concurrent.futures.process", ("ProcessPoolExecutor",)),
    ("multiprocessing.pool", "phalanx.multiprocessing.pool", ("Pool", "ThreadPool")),
    (
        "multiprocessing.synchronize",
        "phalanx.multiprocessing.synchronize",
        ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier"),
    ),
    ("multiprocessing.queues", "phalanx.multiprocessing.queues", ("Queue", "JoinableQueue", "SimpleQueue")),
    ("multiprocessing.connection", "phalanx.multiprocessing.connection", ("Connection", "Pipe")),
    (
        "multiprocessing.sharedctypes",
        "phalanx.multiprocessing.sharedctypes",
        (
            "RawValue",
            "RawArray",
            "Value",
            "Array",
            "copy",
            "synchronized",
            "SynchronizedBase",
            "Synchronized",
            "SynchronizedArray",
            "SynchronizedString",
        ),
    ),
    ("multiprocessing.heap", "phalanx.multiprocessing.heap", ("BufferWrapper",)),
    ("multiprocessing.shared_memory", "phalanx.multiprocessing.shared_memory", ("SharedMemory", "ShareableList")),
    ("multiprocessing.resource_tracker", "phalanx.multiprocessing.resource_tracker", ("unregister",)),
    (
        "multiprocessing.managers",
        "phalanx.multiprocessing.managers",
        (
            "AcquirerProxy",
            "ArrayProxy",
            "AutoProxy",
            "BarrierProxy",
            "BaseListProxy",
            "BaseManager",
            "BasePoolProxy",
            "BaseProxy",
            "ConditionProxy",
            "DictProxy",
            "EventProxy",
            "IteratorProxy",
            "ListProxy",
            "MakeProxyType",
            "NamespaceProxy",
            "PoolProxy",
            "RebuildProxy",
            "Server",
            "SetProxy",
            "SharedMemoryManager",
            "SharedMemoryServer",
            "SyncManager",
            "ValueProxy",
        ),
    ),
)
# Standard package, our package, and the module of ours that changes the one and puts it back.
_ADOPTED = (
    ("multiprocessing", "phalanx.multiprocessing", "phalanx.multiprocessing._start"),
    ("multiprocessing.spawn", "phalanx.multiprocessing", "phalanx.multiprocessing._start"),
)
_WATCHED = frozenset(name for entry in (*_LAZY, *_ADOPTED) for name in entry[:2])

_guard = _RLock()
_active = False
_face_was_here = False
_changes: list[tuple[dict[str, Any], str, Any, Any]] = []  # namespace, name, old, new
_complete: set[str] = set()  # watched modules whose code has run, though the import system may not have noticed yet


def install(*, deadlock: str | None = None) -> None:
    """Make the standard `threading`, `queue` and `concurrent.futures` run on phalanx, everywhere in this process.

    `deadlock` says what happens when a wait can never end: "raise" an error in one of the threads, "report" it on
    standard error, or "off". Without it `PHALANX_DEADLOCK` decides, which is "raise" if unset. Another value raises
    ValueError.

    Classes and functions change in the standard modules and wherever a loaded module took them by name. Locks that
    exist already stay what they are; both kinds mix freely. Calling it again only changes the mode, if one is given.

    In a subinterpreter, where the extension must not be loaded, nothing happens and the standard library stays.
    """
    global _active, _face_was_here
    if deadlock is not None and deadlock not in _settings.DEADLOCK_MODES:
        raise ValueError(f"deadlock must be 'raise', 'report' or 'off', not {deadlock!r}")
    if _in_subinterpreter():
        return
    face_was_here = "phalanx.threading" in sys.modules
    import phalanx.threading as face
    from phalanx import _core, _threads

    default = _settings.deadlock_mode()
    with _guard:
        if not _active:
            _face_was_here = face_was_here
            _threads.adopt()
            _core.set_deadlock_mode(deadlock or default)
            _patch_threads(_core, face)
            sys.meta_path.insert(0, _Finder)
            _active = True
        elif deadlock is not None:
            _core.set_deadlock_mode(deadlock)
    for name in _WATCHED:
        _wait_until_loaded(name)
    for entry in _LAZY:
        _patch_lazy(*entry)
    for adopted in _ADOPTED:
        _adopt_lazy(*adopted)


def uninstall() -> None:
    """Undo `install()`: every name gets back what it had, unless somebody else has changed it since.

    Objects made meanwhile go on working, and so do modules loaded meanwhile with what they took by name.
    """
    global _active
    with _guard:
        if not _active:
            return
        _active = False
        if _Finder in sys.meta_path:
            sys.meta_path.remove(_Finder)
        for names, name, old, new in reversed(_changes):
            if names.get(name, _MISSING) is not new:
                continue
            if old is _MISSING:
                del names[name]
            else:
                names[name] = old
        _changes.clear()
        for _, _, changer in _ADOPTED:
            if changer in sys.modules:
                sys.modules[changer].release()
        if not _face_was_here:
            from phalanx import _threads  # loaded by install(), so this takes no import lock for long

            _threads.release()


def installed() -> bool:
    """Whether the standard library is patched now."""
    return _active


# ---------------------------------------------------------------- what changes


def _patch_threads(core: Any, face: Any) -> None:
    import _thread
    import threading

    # The import system keeps the locks it has: they have a deadlock avoidance of their own, and an error raised from
    # one of ours could itself need an import.
    importer = sys.modules["_frozen_importlib"].__dict__
    if importer.get("_thread") is _thread:
        copy = type(sys)("_thread", _thread.__doc__)
        copy.__dict__.update(_thread.__dict__)
        _set(importer, "_thread", copy)
    std: Any = _thread
    pairs = [(std.LockType, core.Lock), *((old, face.Lock) for old in (std.allocate_lock, std.allocate))]
    pairs.append((std.RLock, core.RLock))
    pairs.extend((getattr(threading, name), getattr(face, name)) for name in _CLASSES)
    _replace(pairs)


def _patch_lazy(std_name: str, face_name: str, names: Sequence[str]) -> None:
    """Patches one standard module if it is loaded, unless either side is just being loaded: its end comes here."""
    if std_name not in sys.modules or _is_loading(std_name) or _is_loading(face_name):
        return
    if not _is_standard(sys.modules[std_name]):
        return
    __import__(face_name)
    face = sys.modules[face_name].__dict__
    with _guard:
        std = _names_of(sys.modules.get(std_name))
        if not _active or std is None:
            return
        ours = [name for name in names if name in face]
        _replace((std[name], face[name]) for name in ours if name in std)
        for name in ours:
            if name not in std:
                _set(std, name, face[name])


def _adopt_lazy(std_name: str, face_name: str, changer: str) -> None:
    """As `_patch_lazy`, for what our module changes itself."""
    if std_name not in sys.modules or _is_loading(std_name) or _is_loading(face_name):
        return
    if not _is_standard(sys.modules[std_name]):
        return
    __import__(face_name)
    with _guard:
        if _active:
            sys.modules[changer].adopt()


def _replace(pairs: Iterable[tuple[Any, Any]]) -> None:
    """Puts the new object wherever a loaded module has the old one as a global."""
    kept = [(old, new) for old, new in pairs if old is not new]
    new_of = {id(old): new for old, new in kept}
    if not new_of:
        return
    for module_name, module in list(sys.modules.items()):
        if module_name == "phalanx" or module_name.startswith("phalanx."):
            continue
        names = _names_of(module)
        if names is None or new_of.keys().isdisjoint(map(id, names.values())):
            continue
        for name, value in list(names.items()):
            if id(value) in new_of:
                _set(names, name, new_of[id(value)])


def _names_of(module: Any) -> dict[str, Any] | None:
    # Entries of sys.modules may be anything. Lazy modules load themselves when an attribute is read in the normal way.
    if not issubclass(type(module), type(sys)):
        return None
    names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return names


def _set(names: dict[str, Any], name: str, new: Any) -> None:
    _changes.append((names, name, names.get(name, _MISSING), new))
    names[name] = new


# ---------------------------------------------------------------- modules that come later


class _Finder:
    """Lets the other finders find a watched module and is told when its code has run."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a watched module as it would be found without this finder."""
        if name not in _WATCHED:
            return None
        for finder in list(sys.meta_path):
            find = None if finder is _Finder else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find is not None else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Stands for the loader of one module until its code has run; the module never gets to see it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: Any) -> None:
        """Run the module's code with its own loader, then patch what can be patched now."""
        spec = module.__spec__
        spec.loader = module.__loader__ = self._loader
        _complete.discard(spec.name)
        self._loader.exec_module(module)
        _complete.add(spec.name)
        for entry in _LAZY:
            if spec.name in entry[:2]:
                _patch_lazy(*entry)
        for adopted in _ADOPTED:
            if spec.name in adopted[:2]:
                _adopt_lazy(*adopted)


def _wait_until_loaded(name: str) -> None:
    # Another thread may be loading it with a loader that was found before our finder was there to stand in for it.
    wait = getattr(sys.modules["_frozen_importlib"], "_lock_unlock_module", None)
    if wait is not None:
        wait(name)


def _is_standard(module: Any) -> bool:
    # A program may have a module of its own under that name.
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    return isinstance(origin, str) and origin.startswith(os.path.dirname(os.__file__) + os.sep)


def _is_loading(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return name not in _complete and bool(getattr(spec, "_initializing", False))


def _in_subinterpreter() -> bool:
    import _thread

    is_main = getattr(_thread, "_is_main_interpreter", None)  # from 3.12
    if is_main is not None:
        return not is_main()
    try:
        import _xxsubinterpreters as interpreters  # type: ignore[import-not-found]
    except ImportError:
        return False  # a Python built without them has only the main one
    return bool(interpreters.get_current() != interpreters.get_main())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_guard._at_fork_reinit)  # type: ignore[attr-defined]
