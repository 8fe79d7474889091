"""`multiprocessing.managers`: use it like the standard module, whose names are all here.

What is different: as long as everybody belongs to one tree of processes, the dicts, lists, sets, values and namespaces
of a `SyncManager` lie in shared memory, and their methods do not ask the server. Keys and values that cannot lie there,
proxies among the values, and callers from other trees go to the server; all see the same content.

A call to a manager that is gone raises `ManagerDied` at once. A lock whose owner was killed raises `phalanx.OwnerDied`
in the next one who wants it, until its `recover()`. Everything else is the standard server's.
"""

from __future__ import annotations

import multiprocessing.managers as _std_managers
import os
import queue
import threading
import time
from multiprocessing import process, util

from phalanx import _core
from phalanx.errors import PhalanxError
from phalanx.multiprocessing import _reasons, _served_locks, _served_tables, _tables, pool, shared_memory
from phalanx.multiprocessing import context as _context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["BaseManager", "BaseProxy", "ManagerDied", "SharedMemoryManager", "SyncManager", "Token"]

_std: Any = _std_managers
_process: Any = process
_find: Any = _core.SharedTable.find

# What stays as it is.
HAS_SHMEM = _std.HAS_SHMEM
Array = _std.Array
Namespace = _std.Namespace
ProcessError = _std.ProcessError
ProcessLocalSet = _std.ProcessLocalSet
RemoteError = _std.RemoteError
State = _std.State
Token = _std.Token
Value = _std.Value
all_methods = _std.all_methods
convert_to_error = _std.convert_to_error
dispatch = _std.dispatch
get_spawning_popen = _std.get_spawning_popen
listener_client = _std.listener_client
public_methods = _std.public_methods
rebuild_as_list = _std.rebuild_as_list
reduce_array = _std.reduce_array

# By these names, since those in the standard module may stand for ours later.
_Server = _std.Server
_BaseManager = _std.BaseManager
_BaseProxy = _std.BaseProxy
_RebuildProxy = _std.RebuildProxy
_SharedMemoryServer = _std.SharedMemoryServer

_Home = tuple[int, int, int]
"""The process of a server: the identity of its tree, in two numbers, and its own number there."""

_DYING = 0.5  # seconds that a process may take to end once its connections are closed


class ManagerDied(PhalanxError, ConnectionError, EOFError):
    """The manager that was called is gone.

    - `pid`: the process id of its server
    - `reason`: how that ended, in words

    It holds text and numbers only, so it may be pickled.
    """

    def __init__(self, text: str = "", *, pid: int = 0, reason: str = "") -> None:
        super().__init__(text)
        self.pid = pid
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self),), dict(self.__dict__)


# ---------------------------------------------------------------- the server's process, looked after


def _peer_of(home: _Home | None) -> _core.Peer | None:
    """The process of a server, or None where it cannot be looked after: in another tree."""
    if home is None or not _core.tree_joined() or _core.Peer.here()[:2] != home[:2]:
        return None
    return _core.Peer(home[2])


def _death_of(home: _Home | None) -> ManagerDied | None:
    """Why a connection to a server broke, if that was its end."""
    peer = _peer_of(home)
    if peer is None or peer.number == _core.Peer.here()[2]:
        return None
    end = time.monotonic() + _DYING
    while not peer.is_gone():
        if time.monotonic() >= end:
            return None
        time.sleep(0.002)
    pid, name, status = peer.life()
    reason = "ended, and nobody saw how" if status is None else _reasons.reason(os.waitstatus_to_exitcode(status))
    child = next((child for child in list(_process._children) if child.pid == pid), None)
    if child is not None:
        # Its parent knows best, though a fork server takes a moment to tell.
        while child.exitcode is None and time.monotonic() < end:
            time.sleep(0.002)
        status = child.exitcode
        reason = getattr(child, "exit_reason", None) or reason
    who = f'the manager "{name}" (pid {pid})' if name else f"the manager with pid {pid}"
    hint = "what it had is lost with it; start a manager and fill it again"
    if status == 0:
        hint = "a manager ends with shutdown(), with its `with` block, or when nobody refers to it any more"
    return ManagerDied(f"{who} is gone: {reason}\nhint: {hint}", pid=pid, reason=reason)


def _is_cut(connection: Any) -> bool:
    """Is it of no use any more? It is not, if the answer to a call has come through."""
    try:
        return bool(connection.poll(0))
    except (OSError, EOFError):
        return True


class _Coming(threading.local):
    """What a proxy that is being rebuilt will know from its pickle."""

    state: tuple[_Home | None, Any] = (None, None)


_coming = _Coming()


# ---------------------------------------------------------------- server


def _fallback_getvalue(_server: Any, _conn: Any, _ident: Any, obj: Any) -> Any:
    return obj._content() if isinstance(obj, _served_tables.Referent) else obj


def _fallback_place(_server: Any, _conn: Any, _ident: Any, obj: Any) -> Any:
    return obj._table.place() if isinstance(obj, _served_tables.Referent) else None


class Server(_std.Server):  # type: ignore[misc]
    """Serves the objects of a manager to those who cannot reach them, or only here."""

    public = (*_Server.public, "home")
    fallback_mapping: Any = _Server.fallback_mapping | {"#GETVALUE": _fallback_getvalue, "#PLACE": _fallback_place}

    def __init__(self, *args: Any, **kwds: Any) -> None:
        _core.Peer.serve()
        _Server.__init__(self, *args, **kwds)

    def home(self, _c: Any) -> _Home:
        """Which process this is."""
        return _core.Peer.here()

    def accept_connection(self, c: Any, name: str, number: int = 0) -> None:
        """Serve the calls of one thread of a client, whose process has that number in the tree."""
        client = _served_locks.serving(_served_locks.Client(number, name))
        try:
            _Server.accept_connection(self, c, name)
        finally:
            client.ended = time.monotonic()

    def decref(self, c: Any, ident: str, number: int = 0) -> None:
        """Note that a process has let go of a proxy."""
        obj = self.id_to_obj.get(ident, (None,))[0]
        if number and isinstance(obj, (_served_locks.Owned, _served_locks.Condition)):
            obj.leave(number)
        _Server.decref(self, c, ident)


# ---------------------------------------------------------------- managers


class BaseManager(_std.BaseManager):  # type: ignore[misc]
    """Starts a server, or connects to one, and makes objects there with proxies for them here."""

    _Server: Any = Server
    _home: _Home | None = None

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        **more: Any,
    ) -> None:
        ctx = ctx or _context._default_context.get_context()
        _BaseManager.__init__(self, address, authkey, serializer, ctx, **more)

    def get_server(self) -> Any:
        """Return a server with `serve_forever()` and an address, to be run in this process."""
        state = self._state.value
        if state != State.INITIAL:
            raise ProcessError("Already started server" if state == State.STARTED else "Manager has shut down")
        return self._Server(self._registry, self._address, self._authkey, self._serializer)

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Start the server in a process of its own, which calls `initializer(*initargs)` first."""
        low, high, _ = _core.Peer.here()  # first: the server is to belong to our tree
        _BaseManager.start(self, initializer, initargs)
        number = _core.Peer.find(self._process.pid)
        if number is not None:
            self._home = low, high, number

    def connect(self) -> None:
        """Use the server that is there at the address."""
        _BaseManager.connect(self)
        if not _core.tree_joined():
            return  # then it is not of our tree
        connection = self._Client(self._address, authkey=self._authkey)
        try:
            self._home = tuple(dispatch(connection, None, "home"))
        except RemoteError:
            pass  # a server of the standard library, or a way to write that has no such numbers
        finally:
            connection.close()

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> Any:
        return self._told(_BaseManager._create, typeid, *args, **kwds)

    def _debug_info(self) -> Any:
        return self._told(_BaseManager._debug_info)

    def _number_of_objects(self) -> Any:
        return self._told(_BaseManager._number_of_objects)

    def _told(self, call: Callable[..., Any], /, *args: Any, **kwds: Any) -> Any:
        try:
            return call(self, *args, **kwds)
        except (OSError, EOFError):
            death = _death_of(self._home)
            if death is None:
                raise
        try:
            raise death
        finally:
            del death  # no cycle

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., Any] | None = None,
        proxytype: Any = None,
        exposed: Any = None,
        method_to_typeid: Any = None,
        create_method: bool = True,
    ) -> None:
        """Let managers of this class make objects by `callable`, with `proxytype` for their proxies."""
        proxytype = AutoProxy if proxytype is None else proxytype
        super().register(typeid, callable, proxytype, exposed, method_to_typeid, create_method)


# ---------------------------------------------------------------- proxies


class BaseProxy(_std.BaseProxy):  # type: ignore[misc]
    """Stands for an object in a server. Calls of its methods are calls there."""

    _home: _Home | None = None
    _place: Any = None

    def __init__(
        self,
        token: Any,
        serializer: str,
        manager: Any = None,
        authkey: bytes | None = None,
        exposed: Any = None,
        incref: bool = True,
        manager_owned: bool = False,
    ) -> None:
        home, self._place = _coming.state
        self._home = home if manager is None else getattr(manager, "_home", None)
        _BaseProxy.__init__(self, token, serializer, manager, authkey, exposed, incref, manager_owned)

    def _number(self) -> int:
        """The number of this process, if the server is of the same tree."""
        return 0 if _peer_of(self._home) is None else _core.Peer.here()[2]

    def _ask(self, method: str, args: tuple[Any, ...], **kwds: Any) -> Any:
        connection = self._Client(self._token.address, authkey=self._authkey)
        try:
            return dispatch(connection, None, method, args, kwds)
        finally:
            connection.close()

    def _connect(self) -> None:
        name = process.current_process().name
        if threading.current_thread().name != "MainThread":
            name += f"|{threading.current_thread().name}"
        number = self._number()
        connection = self._Client(self._token.address, authkey=self._authkey)
        dispatch(connection, None, "accept_connection", (name,), {"number": number} if number else {})
        self._tls.connection = connection

    def _callmethod(self, methodname: str, args: tuple[Any, ...] = (), kwds: Any = {}) -> Any:  # noqa: B006
        """Call a method of the object in the server, and return a copy of the result."""
        try:
            return _BaseProxy._callmethod(self, methodname, args, kwds)
        except (OSError, EOFError):
            death = self._why_cut()
            if death is None:
                raise
        try:
            raise death
        finally:
            del death  # no cycle

    def _why_cut(self) -> ManagerDied | None:
        """After an error: why the connection is of no use, if it is not the method's own error."""
        connection = getattr(self._tls, "connection", None)
        if connection is not None:
            if not _is_cut(connection):
                return None
            connection.close()
            del self._tls.connection  # the next call makes another one
        return _death_of(self._home)

    def _elsewhere(self, name: str, args: tuple[Any, ...] = (), kwds: Any = None) -> Any:
        return self._callmethod(name, args, kwds or {})

    def _incref(self) -> None:
        if self._owned_by_manager:
            return
        try:
            self._ask("incref", (self._id,))
        except (OSError, EOFError):
            death = _death_of(self._home)
            if death is None:
                raise
            raise death from None
        self._idset.add(self._id)
        state = self._manager and self._manager._state
        arguments = self._token, self._authkey, state, self._tls, self._idset, self._Client, self._number() != 0
        self._close = util.Finalize(self, BaseProxy._let_go, args=arguments, exitpriority=10)

    @staticmethod
    def _let_go(token: Any, authkey: bytes, state: Any, tls: Any, idset: Any, client: Any, same_tree: bool) -> None:
        idset.discard(token.id)
        if state is None or state.value == State.STARTED:
            try:
                connection = client(token.address, authkey=authkey)
                kwds = {"number": _core.Peer.here()[2]} if same_tree else {}
                dispatch(connection, None, "decref", (token.id,), kwds)
            except Exception as error:
                util.debug("... decref failed %s", error)  # the server is gone, or going
        if not idset and hasattr(tls, "connection"):
            tls.connection.close()
            del tls.connection

    def __reduce__(self) -> tuple[Any, ...]:
        kwds: dict[str, Any] = {}
        if get_spawning_popen() is not None:
            kwds["authkey"] = self._authkey
        kind: Any = type(self)
        if getattr(self, "_isauto", False):
            kind = AutoProxy
            kwds["exposed"] = self._exposed_
        return RebuildProxy, (kind, self._token, self._serializer, kwds, self._home, self._place)


def RebuildProxy(func: Any, token: Any, serializer: str, kwds: Any, home: Any = None, place: Any = None) -> Any:
    """Make a proxy from its pickle. Its name tells tables that there is one in a value: see `key.rs`."""
    before, _coming.state = _coming.state, (home, place)
    try:
        return _RebuildProxy(func, token, serializer, kwds)
    finally:
        _coming.state = before


def _forward(name: str) -> Callable[..., Any]:
    def method(self: Any, /, *args: Any, **kwds: Any) -> Any:
        return self._callmethod(name, args, kwds)

    method.__name__ = name
    return method


_made: dict[Any, Any] = {}


def MakeProxyType(name: str, exposed: Iterable[str], _cache: dict[Any, Any] = _made) -> Any:
    """Make a class of proxies with these methods."""
    exposed = tuple(exposed)
    kind = _cache.get((name, exposed))
    if kind is None:
        members = {method: _forward(method) for method in exposed}
        kind = _cache[name, exposed] = type(name, (BaseProxy,), {**members, "_exposed_": exposed})
    return kind


def AutoProxy(
    token: Any,
    serializer: str,
    manager: Any = None,
    authkey: bytes | None = None,
    exposed: Any = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> Any:
    """Make a proxy with all public methods of the object, or those that are exposed."""
    if authkey is None:
        authkey = process.current_process().authkey if manager is None else manager._authkey
    if exposed is None:
        connection = listener_client[serializer][1](token.address, authkey=authkey)
        try:
            exposed = dispatch(connection, None, "get_methods", (token,))
        finally:
            connection.close()
    kind = MakeProxyType(f"AutoProxy[{token.typeid}]", exposed)
    proxy = kind(token, serializer, manager=manager, authkey=authkey, incref=incref, manager_owned=manager_owned)
    proxy._isauto = True
    return proxy


class IteratorProxy(BaseProxy, _std.IteratorProxy):  # type: ignore[misc]
    """An iterator or a generator in a server."""


class AcquirerProxy(BaseProxy, _std.AcquirerProxy):  # type: ignore[misc]
    """A lock or a semaphore in a server."""

    _exposed_ = (*_std.AcquirerProxy._exposed_, "recover")

    def recover(self) -> int:
        """Take it from the dead processes that have it; return how often they had it."""
        count: int = self._callmethod("recover")
        return count


class ConditionProxy(AcquirerProxy, _std.ConditionProxy):  # type: ignore[misc]
    """A condition in a server."""

    _exposed_ = (*_std.ConditionProxy._exposed_, "recover")


class EventProxy(BaseProxy, _std.EventProxy):  # type: ignore[misc]
    """An event in a server."""


class BarrierProxy(BaseProxy, _std.BarrierProxy):  # type: ignore[misc]
    """A barrier in a server."""


class ArrayProxy(BaseProxy, _std.ArrayProxy):  # type: ignore[misc]
    """An array in a server."""


class PoolProxy(BaseProxy, _std.PoolProxy):  # type: ignore[misc]
    """A pool of processes that a server has started."""


BaseListProxy = MakeProxyType("BaseListProxy", _std.BaseListProxy._exposed_)
BasePoolProxy = MakeProxyType("PoolProxy", _std.BasePoolProxy._exposed_)
BasePoolProxy._method_to_typeid_ = _std.BasePoolProxy._method_to_typeid_
_BaseDictProxy = MakeProxyType("DictProxy", _std.DictProxy._exposed_)
_BaseDictProxy._method_to_typeid_ = _std.DictProxy._method_to_typeid_


class _Table:
    """Finds the table of a proxy when it is first used."""

    def __get__(self, proxy: Any, owner: Any = None) -> Any:
        if proxy is None:
            return self
        table = proxy.__dict__["_table"] = proxy._find_table()
        return table


class _Tabled(BaseProxy):
    """Stands for something that lies in shared memory."""

    _table: Any = _Table()

    def _find_table(self) -> Any:
        if _peer_of(self._home) is None:
            return _tables.NOWHERE
        if self._place is None:
            try:
                self._place = self._callmethod("#PLACE")
            except RemoteError:
                pass  # a class of the program's own, in a standard server or written as XML
        place = self._place
        table = None if place is None else _find(*place)
        return _tables.NOWHERE if table is None else table


class _Container(_Tabled):
    def _getvalue(self) -> Any:
        if self._table is _tables.NOWHERE:
            return super()._getvalue()
        return self._content()


def _with(kind: Any, *more: str) -> tuple[str, ...]:
    """What a class exposes, and more."""
    return tuple(dict.fromkeys((*kind._exposed_, *more)))


class ListProxy(_tables.ListFace, _Container, _std.ListProxy):  # type: ignore[misc]
    """A list that processes share."""

    _exposed_ = _with(_std.ListProxy, "clear", "copy", "__iadd__", "__imul__")


class DictProxy(_tables.DictFace, _Container, _std.DictProxy):  # type: ignore[misc]
    """A dict that processes share."""

    _exposed_ = _with(_std.DictProxy, "__ior__", "__or__", "__reversed__", "__ror__")
    _method_to_typeid_ = _std.DictProxy._method_to_typeid_


class SetProxy(_tables.SetFace, _Container):
    """A set that processes share."""

    _exposed_ = ("__len__", "clear", *sorted((vars(_tables.SetFace).keys() & {*dir(set)}) - {"__doc__"}))
    _method_to_typeid_ = _std.DictProxy._method_to_typeid_


class ValueProxy(_tables.ValueFace, _Tabled, _std.ValueProxy):  # type: ignore[misc]
    """A value that processes share."""


class NamespaceProxy(_tables.NamespaceFace, _Tabled, _std.NamespaceProxy):  # type: ignore[misc]
    """Attributes that processes share, but for those whose names begin with an underscore."""

    def __getattr__(self, key: str) -> Any:
        return object.__getattribute__(self, key) if key[0] == "_" else self._get(key)

    def __setattr__(self, key: str, value: Any) -> None:
        if key[0] == "_":
            object.__setattr__(self, key, value)
        else:
            self._set(key, value)

    def __delattr__(self, key: str) -> None:
        if key[0] == "_":
            object.__delattr__(self, key)
        else:
            self._delete(key)


# ---------------------------------------------------------------- SyncManager


class SyncManager(BaseManager, _std.SyncManager):  # type: ignore[misc]
    """A manager for the usual types: what `multiprocessing.Manager()` returns, started."""


SyncManager.register("Queue", queue.Queue)
SyncManager.register("JoinableQueue", queue.Queue)
SyncManager.register("Event", threading.Event, EventProxy)
SyncManager.register("Lock", _served_locks.Lock, AcquirerProxy)
SyncManager.register("RLock", _served_locks.RLock, AcquirerProxy)
SyncManager.register("Semaphore", _served_locks.Semaphore, AcquirerProxy)
SyncManager.register("BoundedSemaphore", _served_locks.BoundedSemaphore, AcquirerProxy)
SyncManager.register("Condition", _served_locks.Condition, ConditionProxy)
SyncManager.register("Barrier", threading.Barrier, BarrierProxy)
SyncManager.register("Pool", pool.Pool, PoolProxy)
SyncManager.register("list", _served_tables.List, ListProxy)
SyncManager.register("dict", _served_tables.Dict, DictProxy)
SyncManager.register("set", _served_tables.Set, SetProxy)
SyncManager.register("Value", _served_tables.Value, ValueProxy)
SyncManager.register("Array", Array, ArrayProxy)
SyncManager.register("Namespace", _served_tables.Namespace, NamespaceProxy)
SyncManager.register("Iterator", proxytype=IteratorProxy, create_method=False)
SyncManager.register("AsyncResult", create_method=False)


# ---------------------------------------------------------------- SharedMemoryManager


class SharedMemoryServer(Server, _std.SharedMemoryServer):  # type: ignore[misc]
    """Serves a manager of shared memory: it knows what has to be removed in the end."""

    public = tuple(dict.fromkeys((*Server.public, *_SharedMemoryServer.public)))

    def __init__(self, *args: Any, **kwds: Any) -> None:
        _SharedMemoryServer.__init__(self, *args, **kwds)


class SharedMemoryManager(BaseManager, _std.SharedMemoryManager):  # type: ignore[misc]
    """Makes segments of shared memory, which are removed when it ends."""

    _Server = SharedMemoryServer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Before the server starts: it is to use the same tracker.
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
        BaseManager.__init__(self, *args, **kwargs)

    def SharedMemory(self, size: int) -> Any:
        """Return a new segment of `size` bytes."""
        return self._tracked(shared_memory.SharedMemory(None, create=True, size=size))

    def ShareableList(self, sequence: Iterable[Any]) -> Any:
        """Return a new list of fixed length in a segment of its own."""
        items: Any = shared_memory.ShareableList(sequence)
        self._tracked(items.shm)
        return items

    def _tracked(self, segment: Any) -> Any:
        try:
            with self._Client(self._address, authkey=self._authkey) as connection:
                dispatch(connection, None, "track_segment", (segment.name,))
        except BaseException:
            segment.unlink()
            raise
        return segment


def __getattr__(name: str) -> Any:
    # What the standard module imports for itself, and what later ones have.
    try:
        return getattr(_std, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
