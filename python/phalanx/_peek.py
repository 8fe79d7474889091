"""Looking into objects and frames of a program without running a line of it.

A deadlock report is written while threads sleep with locks in their hands. A property, a `__getattr__`, an `__eq__` or
a `__repr__` of the program could wait for one of these locks, so nothing here calls one: attributes are read from the
dictionaries and slots behind them, and objects are compared by identity. That goes for classes too, whose metaclass may
have any of these: `kind in {int, str}` would ask it.
"""

from __future__ import annotations

import itertools
import opcode
import sys
import threading
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import CodeType, FrameType
    from typing import Any, TypeGuard

# How many elements of one container are looked at.
ELEMENTS = 256

_CO_OPTIMIZED = 0x1
_HEAP_TYPE = 1 << 9

_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_flags: Callable[[type], int] = type.__dict__["__flags__"].__get__
_class_name: Callable[[type], str] = type.__dict__["__name__"].__get__
class_dict: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__

# The standard modules (and ours) whose frames and private attributes mean nothing to the reader of a report.
_INTERNAL = frozenset({"phalanx", "threading", "queue", "_queue", "_thread", "concurrent", "runpy"})
# What a Condition, a Queue or a Semaphore is made of: other threads may wait on the part instead of on the whole.
_PARTS = ("_lock", "_cond", "_condition", "mutex", "not_empty", "not_full", "all_tasks_done")
# What every Thread carries along.
_THREAD_PRIVATE = frozenset(
    {
        "_target",
        "_args",
        "_kwargs",
        "_started",
        "_handle",
        "_tstate_lock",
        "_stderr",
        "_invoke_excepthook",
        "_phalanx_latch",
    }
)
_ATOMS = frozenset(
    map(id, (str, int, float, bool, bytes, type(None), types.FunctionType, types.BuiltinFunctionType, types.CodeType))
)
_KEYS = frozenset(map(id, (str, int, bool, bytes, type(None))))


def ascii_text(text: object) -> str:
    """`text` in printable ASCII, on one line; a subclass of str gets no say in it."""
    if not is_text(text):
        return ""
    raw = str.encode(text, "ascii", "backslashreplace").decode("ascii")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in raw)


def is_text(obj: object) -> TypeGuard[str]:
    """`isinstance(obj, str)` without asking the object for its class."""
    return any(cls is str for cls in _mro(type(obj)))


def type_name(obj: object) -> str:
    return ascii_text(_class_name(type(obj)))


def is_internal(module: object) -> bool:
    """Whether a module of this name is part of the machinery rather than of the program."""
    return type(module) is str and module.partition(".")[0] in _INTERNAL


def module_of(frame: FrameType) -> str:
    name = dict.get(frame.f_globals, "__name__")
    return name if type(name) is str else ""


def _is_c_level(descriptor: object) -> bool:
    return type(descriptor) is types.GetSetDescriptorType or type(descriptor) is types.MemberDescriptorType


def own_dict(obj: object) -> dict[str, Any] | None:
    """The attribute dictionary of an object, or None if it has none that can be read without asking the object."""
    for cls in _mro(type(obj)):
        descriptor = class_dict(cls).get("__dict__")
        if descriptor is not None:
            if not _is_c_level(descriptor):
                return None
            found = descriptor.__get__(obj)
            return found if type(found) is dict else None
    return None


def peek(obj: object, *names: str) -> Any:
    """The first of these attributes that lies in the object's dictionary or in a C-level field of it, or None."""
    try:
        held = own_dict(obj) or {}
        for name in names:
            if name in held:
                return held[name]
            for cls in _mro(type(obj)):
                descriptor = class_dict(cls).get(name)
                if descriptor is not None:
                    if _is_c_level(descriptor):
                        return descriptor.__get__(obj)
                    break
    except Exception:  # a report goes on without what it cannot read
        return None
    return None


def ask(obj: object, method: str) -> Any:
    """What a method without arguments returns, if the type of the object has it from C or Rust; else None."""
    for cls in _mro(type(obj)):
        found = class_dict(cls).get(method)
        if found is not None:
            return found.__get__(obj)() if type(found) is types.MethodDescriptorType else None
    return None


def peek_int(obj: object, *names: str) -> int | None:
    value = peek(obj, *names)
    return value if type(value) is int else None


def children(obj: object, home: str, named: bool) -> Iterator[tuple[str, str, Any]]:
    """What can be reached from `obj` in one step: (text to append, attribute name or "", value).

    A text that does not begin with "." or "[" replaces the name so far: it is the attribute of a class. Modules, and
    classes of other modules than `home`, are opened only if the program's line names them.
    """
    kind = type(obj)
    if id(kind) in _ATOMS:
        return
    if kind is list or kind is tuple:
        sequence: Any = obj
        for index, value in zip(range(ELEMENTS), sequence, strict=False):
            yield f"[{index}]", "", value
    elif kind is dict:
        mapping: Any = obj
        for _, (key, value) in zip(range(ELEMENTS), mapping.items(), strict=False):
            yield f"[{_key(key)}]", "", value
    elif kind is types.ModuleType:
        if named:
            yield from _attributes(own_dict(obj))
    elif any(base is type for base in _mro(kind)):
        cls: Any = obj
        if _flags(cls) & _HEAP_TYPE and (named or class_dict(cls).get("__module__") == home):
            yield from _attributes(class_dict(cls))
    elif _flags(kind) & _HEAP_TYPE:
        yield from _of_instance(obj)


def _of_instance(obj: object) -> Iterator[tuple[str, str, Any]]:
    internal = is_internal(class_dict(type(obj)).get("__module__"))
    if not internal:
        yield from _attributes(own_dict(obj))
    for cls in _mro(type(obj)):
        held = class_dict(cls)
        if is_internal(held.get("__module__")):
            yield from _parts(obj)
            return
        if not _flags(cls) & _HEAP_TYPE:
            return
        for _, (name, content) in zip(range(ELEMENTS), held.items(), strict=False):
            if type(name) is not str:
                continue
            if type(content) is types.MemberDescriptorType:
                try:
                    yield f".{ascii_text(name)}", name, content.__get__(obj)
                except AttributeError:
                    continue
            elif not name.startswith("__"):
                yield f"{ascii_text(_class_name(cls))}.{ascii_text(name)}", name, content


def _parts(obj: object) -> Iterator[tuple[str, str, Any]]:
    for name in _PARTS:
        value = peek(obj, name)
        if value is not None:
            yield f".{name}", name, value


def _attributes(held: Mapping[str, Any] | None) -> Iterator[tuple[str, str, Any]]:
    for _, (name, value) in zip(range(ELEMENTS), (held or {}).items(), strict=False):
        if type(name) is str and not name.startswith("__") and name not in _THREAD_PRIVATE:
            yield f".{ascii_text(name)}", name, value


def _key(key: object) -> str:
    if id(type(key)) not in _KEYS:
        return "..."
    text = ascii(key)
    return text if len(text) <= 24 else "..."


def frame_locals(frame: FrameType) -> dict[str, Any]:
    """The local variables of a frame, closure cells included.

    Before 3.13 the interpreter keeps the dictionary it makes for this with the frame, and so keeps alive whatever the
    program drops later. It is emptied again, unless somebody else holds it or a debugger may write it back.
    """
    found = frame.f_locals
    if not frame.f_code.co_flags & _CO_OPTIMIZED:
        return found if type(found) is dict else {}
    copy = dict(found)
    if type(found) is dict and sys.getrefcount(found) <= 3 and not _is_traced(frame):
        found.clear()
    return copy


def _is_traced(frame: FrameType) -> bool:
    hooks = (vars(threading).get("_trace_hook"), vars(threading).get("_profile_hook"), sys.gettrace(), sys.getprofile())
    return frame.f_trace is not None or any(hook is not None for hook in hooks)


def line_at(code: CodeType, offset: int) -> int:
    """The line of the instruction at a byte offset; the first line of the code where there is none."""
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno


def names_at(code: CodeType, offset: int) -> set[str]:
    """The variables and attributes on the lines of the instruction at a byte offset."""
    first, last, _, _ = next(itertools.islice(code.co_positions(), offset // 2, None), (None, None, None, None))
    first = first or line_at(code, offset)
    lines = range(first, (last or first) + 1)
    raw = code.co_code
    names: set[str] = set()
    for start, end, line in code.co_lines():
        if line is None or line not in lines:
            continue
        extended = 0
        for at in range(start, end, 2):
            op, arg = raw[at], raw[at + 1] | extended
            extended = arg << 8 if opcode.opname[op] == "EXTENDED_ARG" else 0
            names.update(_names_of(code, op, arg))
    return names


def _names_of(code: CodeType, op: int, arg: int) -> list[str]:
    name = opcode.opname[op]
    try:
        if op in opcode.hasname:
            shift = 1 if name == "LOAD_GLOBAL" or (name == "LOAD_ATTR" and sys.version_info >= (3, 12)) else 0
            shift = 2 if name == "LOAD_SUPER_ATTR" else shift
            return [code.co_names[arg >> shift]]
        if op in opcode.haslocal or op in opcode.hasfree:
            slots: Any = code
            if name.count("_FAST") == 2:  # two variables in one instruction
                return [slots._varname_from_oparg(arg >> 4), slots._varname_from_oparg(arg & 15)]
            return [slots._varname_from_oparg(arg)]
    except IndexError:
        pass
    return []
