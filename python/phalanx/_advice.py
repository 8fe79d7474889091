"""The first and the last line of a deadlock report: what happened, and what to do about it."""

from __future__ import annotations

from ._peek import peek_int
from ._waits import LOCKS, QUEUES, main_ident, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._waits import Facts, Wait

# The waits that tell most about what went wrong come first; a join or an idle worker is never the reason.
_BY_KIND = (
    "Barrier",
    "Future.result",
    "Queue.join",
    "Condition",
    "Event",
    "Semaphore",
    "Queue.put",
    "Queue.get",
    "SimpleQueue.get",
    "Lock",
    "RLock",
)
_LISTED = 6


def headline(facts: Facts) -> str:
    """What happened, in one line."""
    n = len(facts.waits)
    if not n or facts.cause not in ("cycle", "asleep", "orphan"):
        return say("head.unknown")
    first = facts.waits[0]
    if facts.cause == "orphan":
        key = "head.orphan.forked" if first.lost_in_fork else "head.orphan.ended"
        return say(key, name=facts.name(first))
    if facts.cause == "cycle":
        if n == 1:
            return say("head.cycle.future" if first.kind == "Future.result" else "head.cycle.self")
        return say("head.cycle.two") if n == 2 else say("head.cycle.many", n=n)
    if n == 1:
        is_main = first.ident == main_ident()
        return say("head.asleep.main" if is_main else "head.asleep.one")
    return say("head.asleep.two") if n == 2 else say("head.asleep.many", n=n)


def advice(facts: Facts) -> str | None:
    """A thing to do, or None if no pattern fits."""
    if not facts.waits:
        return None
    if facts.cause == "orphan":
        return _for_orphan(facts, facts.waits[0])
    ring = facts.ring()
    found = _for_ring(facts, ring) if ring else None
    return found or _for_held_lock(facts, ring or facts.waits) or _for_kinds(facts)


def _for_orphan(facts: Facts, wait: Wait) -> str | None:
    if wait.lost_in_fork:
        return say("hint.orphan.forked")
    return say("hint.orphan.ended", name=_ticked(facts, wait), bare=_bare(facts, wait)) if wait.kind in LOCKS else None


def _for_ring(facts: Facts, ring: list[Wait]) -> str | None:
    kinds = {wait.kind for wait in ring}
    if kinds <= LOCKS:
        return _for_lock_order(facts, ring) if len(ring) > 1 else _for_itself(facts, ring[0])
    if kinds == {"Thread.join"}:
        return say("hint.joins.two" if len(ring) == 2 else "hint.joins.many")
    if kinds == {"Future.result"}:
        return say("hint.future.self" if len(ring) == 1 else "hint.future.each_other")
    return None


def _for_itself(facts: Facts, wait: Wait) -> str:
    if facts.name(wait).endswith(".mutex"):
        return say("hint.self.queue", name=_ticked(facts, wait))
    # A circle found by itself was made by `with`; otherwise `acquire()` may simply lack its `release()`.
    key = "hint.self" if facts.cause == "cycle" else "hint.self.acquire"
    return say(key, name=_ticked(facts, wait), bare=_bare(facts, wait))


def _for_lock_order(facts: Facts, ring: list[Wait]) -> str:
    # Each waits for what the next one holds, so the first holds what the last one waits for.
    names = [facts.typed(wait) for wait in (ring[-1], *ring[:-1])]
    typed = [name for name in names if name is not None]
    if len(typed) < len(names):
        return say("hint.order.sorted")
    if len(ring) > 2:
        listed = [f"`{name}`" for name in sorted(typed, key=_natural)]
        if len(listed) > _LISTED:
            listed[_LISTED:] = ["..."]
        return say("hint.order.many", names=", ".join(listed))
    same_code = len({wait.place for wait in ring}) == 1 and ring[0].place is not None
    return say("hint.order.same" if same_code else "hint.order.two", first=f"`{names[0]}`", second=f"`{names[1]}`")


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key that puts forks[2] before forks[10]."""
    spaced = "".join(c if c.isdigit() else f" {c} " for c in name)
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in spaced.split()]


def _for_held_lock(facts: Facts, waits: list[Wait]) -> str | None:
    """Somebody sleeps with a lock in hand that others of the report need."""
    for wait in waits:
        held = next((other for other in wait.holds if other is not wait and other.kind in LOCKS), None)
        if held is None or wait.kind in LOCKS:
            continue
        name = _ticked(facts, held)
        if wait.kind in QUEUES:
            return say("hint.lock.queue", name=name)
        key = {"Thread.join": "hint.lock.join", "Future.result": "hint.lock.future"}.get(wait.kind, "hint.lock.other")
        return say(key, name=name)
    return None


def _for_kinds(facts: Facts) -> str | None:
    # What waits for another thread of the report is not the reason, that other thread is.
    roots = [wait for wait in facts.waits if wait.holder not in facts.by_ident]
    for wait in roots:
        if wait.kind in LOCKS and wait.lost_in_fork:
            return say("hint.orphan.forked")
        if wait.kind in LOCKS:
            return say("hint.lock.release", name=_ticked(facts, wait), bare=_bare(facts, wait))
    for kind in _BY_KIND:
        for wait in roots:
            if wait.kind == kind:
                return _for_kind(facts, wait)
    return None


def _for_kind(facts: Facts, wait: Wait) -> str | None:
    kind = wait.kind
    if kind == "Barrier":
        return _for_barrier(facts, wait)
    if kind == "Future.result":
        in_pool = any(other.in_pool for other in facts.waits if other.kind == kind)
        return say("hint.future.pool" if in_pool else "hint.future.unset")
    if kind == "Queue.put":
        return say("hint.queue.put", name=_ticked(facts, wait))
    plain = {"Queue.get": "hint.queue.get", "SimpleQueue.get": "hint.simple.get", "Queue.join": "hint.queue.join"}
    plain |= {"Condition": "hint.condition", "Event": "hint.event", "Semaphore": "hint.semaphore"}
    return say(plain[kind], bare=_bare(facts, wait)) if kind in plain else None


def _for_barrier(facts: Facts, wait: Wait) -> str | None:
    parties = peek_int(wait.obj, "_parties", "parties")
    come = facts.arrived(wait)
    if parties is None or come >= parties:
        return None
    return say("hint.barrier.one" if come == 1 else "hint.barrier", parties=parties, n=come)


def _ticked(facts: Facts, wait: Wait) -> str:
    """The name in backticks, or words if the reader cannot type it."""
    name = facts.typed(wait)
    return f"`{name}`" if name is not None else say("it.queue" if wait.kind in QUEUES else "it.lock")


def _bare(facts: Facts, wait: Wait) -> str:
    """What stands for the object inside a piece of code."""
    stand_ins = {"Semaphore": "semaphore", "Queue.get": "queue"}
    return facts.typed(wait) or stand_ins.get(wait.kind, "lock")
