"""Names and places for a deadlock report: what the program calls an object, and where its threads are.

The frames of the sleeping threads are walked from the inside out, and everything reachable from their variables in a
few steps is compared by identity with the objects of the report. Of the names found, the report uses one for each
object: one that no other object of the report shares, that most of the threads concerned can see, and that stands on
the line they wait on.
"""

from __future__ import annotations

import sys
import threading

from ._peek import ascii_text, children, frame_locals, is_internal, module_of, names_at, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

    # (path as compiled, line)
    Place = tuple[str, int]
    # (id of the object, its name, the variable and attributes that the name is made of)
    _Found = tuple[int, str, tuple[str, ...]]

# Bounds of the search: objects looked at in all and for one thread, steps from a variable, frames of one thread.
LOOKED_AT = 30_000
LOOKED_AT_PER_THREAD = 4_000
STEPS = 3
FRAMES = 24

_LIBRARY = str(threading.__file__).removesuffix("threading.py")


class Stacks:
    """The frames of every thread, as long as the report is being written. `close` lets go of them."""

    def __init__(self) -> None:
        self._innermost: dict[int, FrameType] = dict(sys._current_frames())
        self._innermost.pop(threading.get_ident(), None)
        self._here = threading.get_ident()

    def close(self) -> None:
        self._innermost.clear()

    def frames(self, ident: int) -> list[FrameType]:
        """The frames of a thread that belong to the program, innermost first."""
        frame = sys._getframe(1) if ident == self._here else self._innermost.get(ident)
        found: list[FrameType] = []
        while frame is not None and len(found) < FRAMES:
            if not is_internal(module_of(frame)):
                found.append(frame)
            frame = frame.f_back
        return found

    def place(self, ident: int) -> Place | None:
        """Where the thread waits: its innermost frame in the program, or else in a standard module."""
        frames = self.frames(ident)
        if not frames:
            return None
        frame = next((frame for frame in frames if not _is_standard(frame.f_code.co_filename)), frames[0])
        return (frame.f_code.co_filename, frame.f_lineno)

    def runs_pool_task(self, ident: int) -> bool:
        """Whether the worker loop of a pool lies below the program's own frames."""
        frame = sys._getframe(1) if ident == self._here else self._innermost.get(ident)
        in_program = False
        while frame is not None:
            module = module_of(frame)
            if not is_internal(module):
                in_program = True
            elif in_program and "futures" in module:
                return True
            frame = frame.f_back
        return False


def _is_standard(path: str) -> bool:
    return path.startswith((_LIBRARY, "<frozen ")) and "-packages" not in path


class _Name:
    """One name found for one object: the threads that see it, and how well it reads."""

    __slots__ = ("rank", "seen_by", "text")

    def __init__(self, text: str, rank: tuple[int, ...]) -> None:
        self.text = text
        self.rank = rank
        self.seen_by: set[int] = set()


class Names:
    """Finds and hands out the names of the objects that a report speaks of."""

    def __init__(self, wanted: Iterable[object]) -> None:
        self._wanted = {id(obj): obj for obj in wanted if obj is not None}
        self._found: dict[int, dict[str, _Name]] = {key: {} for key in self._wanted}
        self._concerned: dict[int, set[int]] = {key: set() for key in self._wanted}
        self._globals_seen: dict[int, list[_Found]] = {}
        self._budget = LOOKED_AT
        self._chosen: dict[int, tuple[str, bool]] = {}
        # How many objects go by a name; made when first needed.
        self._uses: dict[str, int] = {}

    def concerns(self, obj: object, *idents: int | None) -> None:
        """Note that these threads hold or want `obj`: a name that they can see is a better one."""
        if id(obj) in self._concerned:
            self._concerned[id(obj)].update(ident for ident in idents if ident is not None)

    def search(self, ident: int, frames: list[FrameType], taken: Iterable[tuple[CodeType, int]] = ()) -> None:
        """Look through the variables of one thread; `taken` are the instructions where it took what it holds."""
        budget = min(self._budget, LOOKED_AT_PER_THREAD)
        self._budget -= budget
        taken = list(taken)
        self._uses.clear()
        for depth, frame in enumerate(frames):
            on_line = names_at(frame.f_code, frame.f_lasti)
            for code, offset in taken:
                if code is frame.f_code:
                    on_line.update(names_at(code, offset))
            home = module_of(frame)
            variables = frame_locals(frame)
            if variables is not frame.f_globals:
                found, budget = self._walk(variables, home, on_line, budget)
                self._note(ident, found, on_line, (0, depth))
            key = id(frame.f_globals)
            if key not in self._globals_seen:
                self._globals_seen[key], budget = self._walk(frame.f_globals, home, on_line, budget)
            self._note(ident, self._globals_seen[key], on_line, (1, 0))
            if budget <= 0:
                break
        self._budget += max(budget, 0)

    def _note(self, ident: int, found: list[_Found], on_line: set[str], scope: tuple[int, int]) -> None:
        for key, text, words in found:
            rank = (not on_line.issuperset(words), scope[0], len(words), scope[1])
            known = self._found[key].setdefault(text, _Name(text, rank))
            known.rank = min(known.rank, rank)
            known.seen_by.add(ident)

    def _walk(self, roots: dict[str, object], home: str, on_line: set[str], budget: int) -> tuple[list[_Found], int]:
        """Breadth first from the variables of one scope: what was found, and what is left to spend."""
        found: list[_Found] = []
        level: list[tuple[str, tuple[str, ...], object]] = []
        for root, value in list(dict.items(roots)):
            if type(root) is str and root.isidentifier() and not root.startswith("__"):
                text = type_name(value) if root == "self" else ascii_text(root)
                level.append((text, (root,), value))
        level.sort(key=lambda entry: entry[1][0] not in on_line)
        seen: set[int] = set()
        for steps in range(STEPS + 1):
            following: list[tuple[str, tuple[str, ...], object]] = []
            for text, words, value in level:
                budget -= 1
                if id(value) in self._wanted:
                    found.append((id(value), text, words))
                if steps == STEPS or id(value) in seen or budget <= len(following):
                    continue
                seen.add(id(value))
                try:
                    for suffix, word, child in children(value, home, on_line.issuperset(words)):
                        joined = text + suffix if suffix[0] in ".[" else suffix
                        following.append((joined, (*words, word or words[-1]), child))
                except RuntimeError:  # the container changed under our eyes
                    continue
            level = following
        return found, budget

    def unclear(self) -> bool:
        """Whether some object has no name of its own yet, so that it is worth looking at more threads."""
        return any(all(self._is_shared(text) for text in names) for names in self._found.values())

    def _is_shared(self, text: str) -> bool:
        if not self._uses:
            for names in self._found.values():
                for known in names:
                    self._uses[known] = self._uses.get(known, 0) + 1
        return self._uses.get(text, 0) > 1

    def of(self, obj: object, kind: str) -> str:
        """The name of an object, or its kind and address if the program has none for it."""
        return self._choose(obj, kind)[0]

    def typed(self, obj: object, kind: str) -> str | None:
        """The name of an object if the reader can type it as it stands, else None."""
        text, typable = self._choose(obj, kind)
        return text if typable else None

    def _choose(self, obj: object, kind: str) -> tuple[str, bool]:
        key = id(obj)
        if key not in self._chosen:
            self._chosen[key] = self._best(key, kind)
        return self._chosen[key]

    def _best(self, key: int, kind: str) -> tuple[str, bool]:
        names = self._found.get(key)
        if not names:
            return f"{kind.partition('.')[0]} at {key:#x}", False
        concerned = self._concerned[key]
        best = min(
            names.values(),
            key=lambda name: (self._is_shared(name.text), -len(name.seen_by & concerned), name.rank, len(name.text)),
        )
        if not self._is_shared(best.text):
            return best.text, "..." not in best.text
        # Several objects of the report go by this name: number them.
        same = [other for other, texts in self._found.items() if best.text in texts]
        return f"{best.text} #{same.index(key) + 1}", False


def short_places(places: Iterable[Place]) -> dict[Place, str]:
    """``file:line`` for each place: as few leading folders as keep different files apart."""
    known = list(dict.fromkeys(places))
    texts: dict[str, str] = {}
    paths = list(dict.fromkeys(path for path, _ in known))
    for path in paths:
        parts = path.replace("\\", "/").split("/")
        take = 2 if parts[-1] in ("__init__.py", "__main__.py") else 1
        while take < len(parts) and any(_ends(other, parts[-take:]) for other in paths if other != path):
            take += 1
        texts[path] = ascii_text("/".join(parts[-take:]))
    return {(path, line): f"{texts[path]}:{line}" for path, line in known}


def _ends(path: str, tail: list[str]) -> bool:
    return path.replace("\\", "/").split("/")[-len(tail) :] == tail
