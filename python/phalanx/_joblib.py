"""Tells joblib, when it is loaded, that there is a backend named "phalanx".

joblib looks for no plug-ins: whoever has a backend registers it. `import phalanx` does: at once if joblib is loaded,
else as soon as it is; `site/purelib/_phalanx_joblib.py` does in programs that import nothing of phalanx. The backend
itself is loaded when it is first asked for.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any

__all__ = ["announce", "find_spec"]

_HOME = "joblib.parallel"


def announce() -> None:
    """Enter the backend, now or when joblib is loaded."""
    loaded = sys.modules.get(_HOME)
    if loaded is not None and hasattr(loaded, "register_parallel_backend"):
        _enter(loaded)
    elif _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def _enter(module: Any) -> None:
    register = getattr(module, "register_parallel_backend", None)
    if register is not None:
        register("phalanx", _backend)


def _backend(**given: Any) -> Any:
    from phalanx.joblib import PhalanxBackend

    return PhalanxBackend(**given)


class _Finder:
    """Lets the other finders find joblib's module, and goes."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find it as it would be found without this finder."""
        return find_spec(name, path, target) if name == _HOME else None


def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
    """Find joblib's module by the other finders; once it has run, it knows of the backend."""
    for finder in list(sys.meta_path):
        find = None if finder is _Finder else getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find(name, path, target) if find is not None else None
        if spec is not None:
            run = getattr(spec.loader, "exec_module", None)
            if run is not None:
                # On the loader object, which is this module's alone: it stays of its own class.
                spec.loader.exec_module = _then_enter(run)  # type: ignore[union-attr, method-assign]
            return spec
    return None


def _then_enter(run: Any) -> Any:
    def exec_module(module: Any) -> None:
        run(module)
        if module.__name__ != _HOME:  # of a loader that has many modules
            return
        _enter(module)
        if _Finder in sys.meta_path:
            sys.meta_path.remove(_Finder)

    return exec_module
