"""The locks, semaphores and conditions in the server of a manager: they know which client has them.

A client is a thread of some process, with a connection of its own and a thread here that serves it. If a client's
process is killed, or fails, with a lock in its hands, the next one who wants the lock gets `phalanx.OwnerDied`, until
somebody calls `recover()`, or `release()` in its place. A process that ends well may leave a lock to others, as ever.

Who waits here looks ten times a second whether the owners and the own client are still alive.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic, sleep

from phalanx import _core
from phalanx.errors import OwnerDied
from phalanx.multiprocessing._deaths import owner_died

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BoundedSemaphore", "Client", "Condition", "Lock", "Owned", "RLock", "Semaphore", "serving"]

_LOOK = 0.1  # seconds between two looks
_REAPING = 0.2  # seconds that its parent may take to learn how a process ended
_DYING = 0.5  # seconds that a process may take to end once its connections are closed


class Client:
    """Who is served by a thread. `number` is that of its process in the tree, 0 for one of another tree."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.ended: float | None = None  # when its connection was closed
        self._peer = _core.Peer(number) if number else None

    def is_gone(self) -> bool:
        """Whether its process has ended."""
        return self._peer is not None and self._peer.is_gone()

    def status(self) -> int | None:
        """The wait status of its process, once that has ended and somebody has seen it."""
        return None if self._peer is None else self._peer.life()[2]

    def death(self, kind: str, count: int = 1) -> OwnerDied:
        """The error for what it had."""
        if self._peer is not None and self._peer.is_gone():
            pid, name, status = self._peer.life()
            end = monotonic() + _REAPING
            while status is None and monotonic() < end:
                sleep(0.002)
                status = self._peer.life()[2]
            return owner_died(kind, pid, name, status, "", count)
        text = f'"{self.name}", which took this {kind}, has closed its connection to the manager without releasing it'
        text += f"\nhint: release it in the thread that took it; {kind.lower()}.recover() makes it free again"
        return OwnerDied(text, reason="closed its connection", kind=kind)


class _Serving(threading.local):
    """The client of the calling thread."""

    client: Client | None = None


_serving = _Serving()


def serving(client: Client | None = None) -> Client:
    """The client that the calling thread serves, which is `client` from now on if that is given."""
    if client is not None:
        _serving.client = client
    elif _serving.client is None:
        _serving.client = Client(0, threading.current_thread().name)  # a thread of the server's own
    return _serving.client


def _limit(blocking: bool, timeout: float | None) -> float | None:
    """When a wait is to end, on the clock of `monotonic`; None for never."""
    if not blocking:
        if timeout is not None and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return 0.0
    return None if timeout is None or timeout == -1 else monotonic() + timeout


class Owned:
    """What clients take and give back, one at a time or a few."""

    _KIND = "Lock"

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._owners: dict[Client, int] = {}  # how often each has it, in the order in which they came
        self._left: set[int] = set()  # processes that have no proxy for it any more

    def _take(self) -> bool:
        """With the state locked: take it for the calling thread's client, if it is free."""
        raise NotImplementedError

    def _lost(self) -> OwnerDied | None:
        """The error for an owner who will never give it back."""
        for client, count in self._owners.items():
            if self._is_lost(client):
                return client.death(self._KIND, count)
        return None

    def _is_lost(self, client: Client) -> bool:
        if not client.is_gone():
            return False
        status = client.status()
        # Whoever was killed has not let go of its proxy first.
        return client.number not in self._left if status is None else status != 0

    def leave(self, number: int) -> None:
        """A process has let go of a proxy for it."""
        self._left.add(number)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take it; return whether that was possible in time. Raises OwnerDied if a dead client has it."""
        end = _limit(blocking, timeout)
        with self._changed:
            if self._take():
                return True
            while True:
                lost = self._lost()
                if lost is not None:
                    raise lost
                left = _LOOK if end is None else min(end - monotonic(), _LOOK)
                if left <= 0:
                    return False
                self._changed.wait(left)
                if serving().is_gone():
                    self._changed.notify()  # the wake-up may have been for us
                    raise SystemExit  # nobody waits for an answer: this thread's work is done
                if self._take():
                    return True

    def recover(self) -> int:
        """Take it from the dead who have it; return how often they had it."""
        with self._changed:
            dead = {client: count for client, count in self._owners.items() if self._is_lost(client)}
            for client, count in dead.items():
                del self._owners[client]
                self._give_back(count)
            self._changed.notify_all()
            return sum(dead.values())

    def _give_back(self, count: int) -> None:
        """With the state locked: a dead client had it so often."""

    def _note(self) -> None:
        client = serving()
        self._owners[client] = self._owners.get(client, 0) + 1

    def _forget(self) -> None:
        """Somebody gives it back: the own client, or else in the place of the one who had it first."""
        client = serving()
        if client not in self._owners:
            client = next(iter(self._owners), client)
        count = self._owners.pop(client, 1) - 1
        if count:
            self._owners[client] = count

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def release(self) -> None:
        """Give it back."""
        raise NotImplementedError


class Semaphore(Owned):
    """Permits."""

    _KIND = "Semaphore"

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        super().__init__()
        self._value = value

    def _take(self) -> bool:
        if self._value == 0:
            return False
        self._value -= 1
        self._note()
        return True

    def release(self, n: int = 1) -> None:
        """Add permits."""
        if n < 1:
            raise ValueError("n must be one or more")
        with self._changed:
            self._check(n)
            for _ in range(n):
                self._forget()
            self._value += n
            self._changed.notify(n)

    def _check(self, n: int) -> None:
        pass

    def _give_back(self, count: int) -> None:
        self._value += count

    def get_value(self) -> int:
        """How many permits there are."""
        return self._value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x}: value={self._value}>"


class BoundedSemaphore(Semaphore):
    """Permits that never get more than there were."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._most = value

    def _check(self, n: int) -> None:
        if self._value + n > self._most:
            raise ValueError("Semaphore released too many times")


class Lock(Semaphore):
    """A lock that anybody may release."""

    _KIND = "Lock"

    def __init__(self) -> None:
        super().__init__(1)

    def _check(self, n: int) -> None:
        if self._value:
            raise RuntimeError("release unlocked lock")

    def release(self) -> None:  # type: ignore[override]
        """Give it back."""
        super().release()

    def locked(self) -> bool:
        """Whether anybody has taken it."""
        return self._value == 0

    def __repr__(self) -> str:
        return f"<{'unlocked' if self._value else 'locked'} Lock at {id(self):#x}>"


class RLock(Owned):
    """A lock that its owner may take again, and nobody else may release."""

    _KIND = "RLock"

    def _take(self) -> bool:
        if self._owners and serving() not in self._owners:
            return False
        self._note()
        return True

    def _is_lost(self, client: Client) -> bool:
        # Nobody else can give it back, however the client ended. A process closes its connections before it is gone.
        return client.is_gone() or (client.ended is not None and monotonic() - client.ended > _DYING)

    def release(self) -> None:
        """Give it back once."""
        with self._changed:
            if serving() not in self._owners:
                raise RuntimeError("cannot release un-acquired lock")
            self._forget()
            self._changed.notify()

    def _is_owned(self) -> bool:
        return serving() in self._owners

    def _release_save(self) -> int:
        with self._changed:
            count = self._owners.pop(serving())
            self._changed.notify()
            return count

    def _acquire_restore(self, count: int) -> None:
        self.acquire()
        self._owners[serving()] = count

    def __repr__(self) -> str:
        owner = next((client.name for client in self._owners), None)
        count = sum(self._owners.values())
        return f"<{'locked' if count else 'unlocked'} RLock owner={owner!r} count={count} at {id(self):#x}>"


class Condition:
    """A condition. A client that is killed while it waits does not take a notification with it."""

    def __init__(self, lock: Any = None) -> None:
        self._lock = RLock() if lock is None else lock
        self._waiters: deque[threading.Event] = deque()
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def recover(self) -> int:
        """Take the lock from the dead who have it; return how often they had it."""
        count: int = self._lock.recover()
        return count

    def leave(self, number: int) -> None:
        """A process has let go of a proxy for it."""
        if isinstance(self._lock, Owned):
            self._lock.leave(number)

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *exc_info: object) -> Any:
        return self._lock.__exit__(*exc_info)

    def _is_owned(self) -> bool:
        ask = getattr(self._lock, "_is_owned", None)
        if ask is not None:
            return bool(ask())
        if self._lock.acquire(False):
            self._lock.release()
            return False
        return True

    def _let_go(self) -> Any:
        save = getattr(self._lock, "_release_save", None)
        return self._lock.release() if save is None else save()

    def _retake(self, state: Any) -> None:
        restore = getattr(self._lock, "_acquire_restore", None)
        if restore is None:
            self._lock.acquire()
        else:
            restore(state)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a notification; return whether there was one in time. The lock must be held (RuntimeError)."""
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        end = None if timeout is None else monotonic() + timeout
        waiter = threading.Event()
        self._waiters.append(waiter)
        state = self._let_go()
        try:
            notified = self._sleep(waiter, end)
        except SystemExit:
            if not self._leave(waiter):
                self._wake(1)  # it was for nobody
            raise
        notified = notified or not self._leave(waiter)
        self._retake(state)
        return notified

    def _sleep(self, waiter: threading.Event, end: float | None) -> bool:
        while True:
            left = _LOOK if end is None else min(end - monotonic(), _LOOK)
            if waiter.wait(max(left, 0)):
                return True
            if serving().is_gone():
                raise SystemExit
            if end is not None and monotonic() >= end:
                return False

    def _leave(self, waiter: threading.Event) -> bool:
        """Take a waiter out; false if somebody has notified it."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return False
        return True

    def _wake(self, n: int) -> None:
        for _ in range(n):
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                return
            waiter.set()

    def notify(self, n: int = 1) -> None:
        """Wake up to n clients that wait. The lock must be held (RuntimeError)."""
        if not self._is_owned():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._wake(n)

    def notify_all(self) -> None:
        """Wake all clients that wait. The lock must be held (RuntimeError)."""
        self.notify(len(self._waiters))

    def __repr__(self) -> str:
        return f"<Condition({self._lock!r}, {len(self._waiters)})>"
