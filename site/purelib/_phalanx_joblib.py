"""Lets joblib learn of the backend "phalanx" in programs that import nothing of phalanx.

joblib looks for no plug-ins, so `phalanx-joblib.pth` imports this module when an interpreter starts. It loads nothing
itself, and nothing of phalanx before `joblib.parallel` is loaded.
"""

import sys


class _Finder:
    """Looks on until joblib's module is wanted."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Find it as `phalanx._joblib` does; anything else is for the other finders."""
        if name != "joblib.parallel":
            return None
        if _Finder in sys.meta_path:
            sys.meta_path.remove(_Finder)
        try:
            from phalanx import _joblib
        except ImportError:  # being installed, or half gone: joblib works without it
            return None
        return _joblib.find_spec(name, path, target)


sys.meta_path.insert(0, _Finder)
