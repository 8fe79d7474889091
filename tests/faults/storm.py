"""Storms: processes are killed at random moments, the others go on, and afterwards everything is counted.

    python tests/faults/storm.py --rounds 10000 --items 1000000 --seed 1

Each round has a handful of processes on one object, some of which are marked for death. Some are killed with SIGKILL
when a counter of theirs passes a random number, and a random moment later. The others die at some visit of some point
that the core has a name for. In some rounds processes are stopped for a while, in the middle of whatever they do. Each
process notes what it does in a mapping that all share and that none of the code under test knows: a putter before and
after each put, a getter after each get.

A process that is killed may take one item with it, the one in its hands. Everything else counts:

lost      items that were put and that nobody got, beyond one for each killed process
doubled   items that were got twice
corrupt   items that are not what was put, or that nobody put
disorder  items of one putter that one getter got in another order
blocked   processes that did not end
violated  two holders of one lock, an increment lost, a permit too many, a barrier passed by halves
errors    exceptions that should not have been

At the end it says what the storm has left in the root: descriptors, children, threads, bytes of the arena.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import mmap
import os
import random
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.stage import LIBRARY, DeadlockError, OwnerDied, ctx, gone, synchronize

_core: Any = importlib.import_module("phalanx._core") if LIBRARY != "std" else None
POINTS: list[str] = list(_core._kill_points()) if _core else []
LIMIT = 20.0  # seconds for one round; whoever has not ended then is blocked
MOST = 6  # processes on each side, at most


class Blocked(BaseException):
    """The round took too long."""


@dataclass
class Tally:
    """What was counted."""

    rounds: int = 0
    killed: int = 0
    items: int = 0
    in_hand: int = 0
    lost: int = 0
    doubled: int = 0
    corrupt: int = 0
    disorder: int = 0
    blocked: int = 0
    violated: int = 0
    errors: int = 0
    words: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Sum up."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def bad(self) -> int:
        """How much went wrong."""
        return self.lost + self.doubled + self.corrupt + self.disorder + self.blocked + self.violated + self.errors


class Book:
    """Counters and bytes that all processes of a round share. Each has one writer."""

    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, (size + 7) // 8 * 8)
        self.bytes = memoryview(self._map)
        self.words = self.bytes.cast("q")


WORDS = 144  # the first words of the book are counters, then come bytes
BEGUN, DONE, GOT, CORRUPT, DISORDER, PASSED, INSIDE, TOTAL, SPOILT = range(0, 9 * 16, 16)
book = Book(WORDS * 8)
fault = Path(os.environ.get("TMPDIR", "/tmp")) / f"storm-{os.getpid()}.txt"


# ---- items: each says who put it and which one it is, in a form that shows any damage


def pattern(putter: int, seq: int) -> bytes:
    """Bytes of many sizes that only this item has."""
    random_ = (putter * 7919 + seq + 1) * 2654435761 & 0xFFFFFFFF
    kind = random_ >> 7 & 63
    size = 80_000 + random_ % 200_000 if kind == 0 else 1500 + random_ % 5000 if kind < 6 else random_ % 90
    return (struct.pack("<II", random_, seq) * (size // 8 + 1))[:size]


def encode(putter: int, seq: int) -> Any:
    """An item: a number, a tuple, bytes or a text."""
    number = putter << 32 | seq
    match seq & 3:
        case 0:
            return number
        case 1:
            return (putter, seq, pattern(putter, seq))
        case 2:
            return struct.pack("<Q", number) + pattern(putter, seq)
        case _:
            return f"{number}:{pattern(putter, seq).hex()}"


def decode(item: Any) -> tuple[int, int] | None:
    """Who put it and which one it is; None if it is damaged."""
    try:
        match item:
            case int():
                number = item
            case tuple():
                number = item[0] << 32 | item[1]
            case bytes():
                number = struct.unpack_from("<Q", item)[0]
            case _:
                number = int(item.partition(":")[0])
        putter, seq = number >> 32, number & 0xFFFFFFFF
        return (putter, seq) if encode(putter, seq) == item else None
    except (ValueError, TypeError, IndexError, struct.error):
        return None


# ---- one round


class Round:
    """The processes of one round, and who of them is to die."""

    def __init__(self, seed: int, items: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.items = items
        self.tally = Tally(rounds=1)
        self.processes: list[Any] = []
        self.dead: set[Any] = set()  # who was killed, known at the end
        self.victims: list[tuple[Any, int, int, float]] = []  # who, which word, from which number on, how much later
        self.buries = self.random.random() < 0.5  # whether deaths are reaped at once
        self.stops = self.random.random() < 0.1  # whether processes are stopped now and then

    def marked(self, among: int, most: int) -> dict[int, tuple[str, int] | None]:
        """Which ones of `among` processes are to die, at most `most`, and at which visit of which point, if at one."""
        chance = self.random
        who = chance.sample(range(among), chance.randint(0, most))
        at_point = [bool(POINTS) and chance.random() < 0.5 for _ in who]
        points = [(chance.choice(POINTS), int(chance.paretovariate(0.5))) if at else None for at in at_point]
        return dict(zip(who, points, strict=True))

    def start(self, body: Callable[..., None], *args: object, dies: tuple[str, int] | None = None) -> Any:
        """A process that runs `body`, up to that visit of that point."""
        process = ctx.Process(target=_run, args=(body, self.seed, dies, *args), name=f"{body.__name__}-{args[0]}")
        process.start()
        self.processes.append(process)
        return process

    def condemn(self, process: Any, word: int, most: int, point: object = None) -> None:
        """Kill it when that word of the book has passed a random number, a high one if it is to die at a point."""
        number = self.random.randrange(max(1, most)) if point is None else max(1, most - 1)
        self.victims.append((process, word, number, self.random.random() ** 3 * 0.002))

    def strike(self) -> None:
        """Kill whose time has come."""
        if self.stops and self.random.random() < 0.02:
            self.stop(self.random.choice(self.processes))
        for victim in self.victims[:]:
            process, word, number, later = victim
            if gone(process.pid):
                self.victims.remove(victim)
            elif book.words[word] >= number:
                end = time.perf_counter() + later
                while time.perf_counter() < end:
                    pass
                self.kill(process)
                self.victims.remove(victim)

    def kill(self, process: Any) -> None:
        """SIGKILL, and see it dead."""
        os.kill(process.pid, signal.SIGKILL)
        while not gone(process.pid):
            time.sleep(0)
        if self.buries:
            process.join()

    def stop(self, process: Any) -> None:
        """SIGSTOP, a while in which the others may even bury somebody, SIGCONT."""
        if not gone(process.pid):
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(self.random.choice((0.001, 0.01, 0.25)))
            os.kill(process.pid, signal.SIGCONT)

    def watch(self, until: Callable[[], bool]) -> None:
        """Strike until that is so."""
        while not until():
            self.strike()
            time.sleep(0 if self.victims else 0.0002)

    def finish(self) -> None:
        """Await the end of all, and count the killed."""
        for process in self.processes:
            process.join()
            if process.exitcode == -signal.SIGKILL:
                self.tally.killed += 1
                self.dead.add(process)
            elif process.exitcode != 0:
                self.tally.errors += 1
                self.say(f"{process.name} ended with {process.exitcode}")
            process.close()

    def give_up(self) -> None:
        """It took too long: count who is still there, and end them."""
        for process in self.processes:
            try:
                if process.exitcode is None:
                    self.tally.blocked += 1
                    self.say(f"{process.name} is blocked")
                    os.kill(process.pid, signal.SIGKILL)
                    process.join()
                elif process.exitcode == -signal.SIGKILL:
                    self.tally.killed += 1
            except ValueError:
                pass  # closed: it ended well
        if not self.tally.blocked:
            self.tally.blocked = 1
            self.say("the root is blocked")

    def say(self, words: str) -> None:
        """One line for whoever has to find out."""
        self.tally.words.append(f"seed {self.seed}: {words}")


def _run(body: Callable[..., None], seed: int, dies: tuple[str, int] | None, *args: Any) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if dies is not None:
        _core._kill_at(*dies)
    try:
        body(*args)
    except BaseException:
        with fault.open("a") as file:
            file.write(f"seed {seed}: {body.__name__} {args[0]}\n{traceback.format_exc()}\n")
        raise


# ---- queues and pipes


def putter(me: int, items: int, put: Callable[[Any], None]) -> None:
    """Puts its numbers, and notes each before and after."""
    for seq in range(items):
        book.words[BEGUN + me] = seq + 1
        try:
            put(encode(me, seq))
        except BrokenPipeError:
            return
        book.words[DONE + me] = seq + 1


def getter(me: int, items: int, get: Callable[[], Any], done: Callable[[], None] | None = None) -> None:
    """Notes what it gets, up to a None or the end."""
    last = [-1] * MOST
    base = WORDS * 8 + me * MOST * items
    while True:
        try:
            item = get()
        except EOFError:
            return
        if item is None:
            return
        known = decode(item)
        if known is None or known[0] >= MOST or known[1] >= items:
            book.words[CORRUPT + me] += 1
            continue
        who, seq = known
        book.bytes[base + who * items + seq] += 1
        if seq <= last[who]:
            book.words[DISORDER + me] += 1
        last[who] = seq
        book.words[GOT + me] += 1
        if done is not None:
            done()


def count_items(round_: Round, putters: int, getters: int, items: int, forgiven: int) -> None:
    """Compare what was put with what was got; `forgiven` items may have died in a getter's hands."""
    tally, missing = round_.tally, 0
    rows = [
        [
            bytes(book.bytes[base : base + items])
            for base in (WORDS * 8 + (getter_ * MOST + who) * items for getter_ in range(getters))
        ]
        for who in range(putters)
    ]
    for who in range(putters):
        begun, done = book.words[BEGUN + who], book.words[DONE + who]
        tally.items += done
        for seq in range(items):
            times = sum(row[seq] for row in rows[who])
            if times > 1:
                tally.doubled += times - 1
                round_.say(f"item {seq} of putter {who} was got {times} times")
            elif times and seq >= begun:
                tally.corrupt += 1
                round_.say(f"item {seq} of putter {who} was never put")
            elif not times and seq < done:
                missing += 1
            elif not times and seq < begun:
                tally.in_hand += 1
    tally.corrupt += sum(book.words[CORRUPT : CORRUPT + getters])
    tally.disorder += sum(book.words[DISORDER : DISORDER + getters])
    lost = max(0, missing - forgiven)
    tally.lost += lost
    tally.in_hand += missing - lost
    if lost:
        round_.say(f"{missing} items are missing, {forgiven} getters were killed")


def queue_storm(round_: Round, make: Callable[[], Any], joins: bool = False) -> None:
    """Putters and getters on one queue; one getter at least survives."""
    chance = round_.random
    putters, getters = chance.randint(1, 4), chance.randint(1, 4)
    items = max(8, round_.items // putters)
    q = make()
    die, starve = round_.marked(putters, putters), round_.marked(getters, getters - 1)
    done = q.task_done if joins else None
    ps = [round_.start(putter, n, items, q.put, dies=die.get(n)) for n in range(putters)]
    gs = [round_.start(getter, n, items, q.get, done, dies=starve.get(n)) for n in range(getters)]
    for n, point in die.items():
        round_.condemn(ps[n], BEGUN + n, items, point)
    for n, point in starve.items():
        round_.condemn(gs[n], GOT + n, items * putters // getters, point)
    round_.watch(lambda: all(gone(p.pid) for p in ps))
    # Getters may still be marked; all that is left to them is what lies in the queue.
    patience = time.monotonic() + 0.2
    round_.watch(lambda: not round_.victims or q.empty() or time.monotonic() > patience)
    if chance.random() < 0.5:
        for process, *_ in round_.victims:
            if not gone(process.pid):
                round_.kill(process)  # most of them wait for an item
    dead = [g for g in gs if gone(g.pid)]
    told: Exception | None = None
    if joins:
        try:
            q.join()
        except OwnerDied as error:
            told = error
            # One that dies at a point may have come there since we looked.
            if not any(str(g.pid) in str(error) for g in gs if gone(g.pid)):
                round_.tally.errors += 1
                round_.say(f"OwnerDied without a death: {error}")
    for _ in range(getters - len(dead)):
        q.put(None)
    round_.finish()
    count_items(round_, putters, getters, items, len(round_.dead.intersection(gs)))
    put, got = sum(book.words[DONE : DONE + putters]), sum(book.words[GOT : GOT + getters])
    if joins and told is None and got < put:
        round_.tally.errors += 1
        round_.say("join() returned, but an item was never done")
    left = 0
    while not q.empty():
        left += 1
        if q.get() is not None or left > len(round_.dead.intersection(gs)) - len(dead):
            round_.tally.errors += 1
            round_.say("the queue is not empty at the end")


def pipe_storm(round_: Round) -> None:
    """Pairs over a pipe each: who is left of a pair learns of the end."""
    chance = round_.random
    pairs = chance.randint(1, 3)
    items = max(8, round_.items // pairs)
    ends = [ctx.Pipe(chance.random() < 0.5) for _ in range(pairs)]
    everything = [end for pair in ends for end in pair]

    def only(me: int, body: Callable[..., None], mine: Any, *args: Any) -> None:
        for end in everything:
            if end is not mine:
                end.close()
        body(me, items, *args)

    die, cut = round_.marked(pairs, pairs), round_.marked(pairs, pairs)
    ps = [round_.start(only, n, putter, w, w.send, dies=die.get(n)) for n, (_, w) in enumerate(ends)]
    gs = [round_.start(only, n, getter, r, r.recv, dies=cut.get(n)) for n, (r, _) in enumerate(ends)]
    for end in everything:
        end.close()
    for n, point in die.items():
        round_.condemn(ps[n], BEGUN + n, items, point)
    for n, point in cut.items():
        round_.condemn(gs[n], GOT + n, items, point)
    round_.watch(lambda: all(gone(process.pid) for process in (*ps, *gs)))
    round_.finish()
    for n in cut:
        if gs[n] not in round_.dead:
            continue
        # What lay in this pipe went with its reader.
        book.words[DONE + n] = book.words[GOT + n]
        book.words[BEGUN + n] = min(book.words[BEGUN + n], book.words[GOT + n] + 1)
    count_items(round_, pairs, pairs, items, 0)


# ---- locks


def holder(me: int, times: int, lock: Any, recover: bool) -> None:
    """Adds one under the lock, in steps that anybody else inside would spoil."""
    chance = random.Random(me)
    yields = 0.3 * (me & 1)
    for n in range(times):
        while True:
            try:
                lock.acquire()
                break
            except OwnerDied:
                if not recover:
                    raise
                lock.recover()
        other = book.words[INSIDE]
        if other and not gone(other):
            book.words[SPOILT + me] += 1
        book.words[INSIDE] = os.getpid()
        total = book.words[TOTAL]
        if chance.random() < yields:
            os.sched_yield()
        book.words[TOTAL] = total + 1
        book.words[PASSED + me] = n + 1
        book.words[INSIDE] = 0
        lock.release()


def lock_storm(round_: Round, make: Callable[[], Any], recover: bool = False) -> None:
    """A counter under a lock whose holders are killed."""
    chance = round_.random
    lock, many, times = make(), chance.randint(2, 5), max(10, round_.items * 5)
    die = round_.marked(many, many - 1)
    who = [round_.start(holder, n, times, lock, recover, dies=die.get(n)) for n in range(many)]
    for n, point in die.items():
        round_.condemn(who[n], PASSED + n, times, point)
    round_.watch(lambda: all(gone(process.pid) for process in who))
    survived = [n for n in range(many) if who[n].exitcode == 0]
    round_.finish()
    total, passed = book.words[TOTAL], sum(book.words[PASSED : PASSED + many])
    round_.tally.items += passed
    wrong = sum(book.words[SPOILT : SPOILT + many]) + (not passed <= total <= passed + round_.tally.killed)
    wrong += sum(book.words[PASSED + n] != times for n in survived)
    if wrong:
        round_.tally.violated += wrong
        round_.say(f"{total} counted, {passed} passed, {round_.tally.killed} killed, {wrong} wrong")


def guest(me: int, times: int, semaphore: Any, permits: int, many: int, pids: int) -> None:
    """Is inside with a permit, and looks whether there are too many."""
    book.words[pids + me] = os.getpid()
    chance = random.Random(me)
    yields = 0.3 * (me & 1)
    for n in range(times):
        semaphore.acquire()
        book.words[INSIDE + me] = n + 1
        inside = [(i, visit) for i in range(many) if (visit := book.words[INSIDE + i])]
        if len(inside) > permits:
            # One may have gone and another come while we looked: who is still there was there together.
            together = [i for i, visit in inside if book.words[INSIDE + i] == visit]
            if sum(not gone(book.words[pids + i]) for i in together) > permits:
                book.words[SPOILT + me] += 1
        if chance.random() < yields:
            os.sched_yield()
        book.words[INSIDE + me] = 0
        semaphore.release()
        book.words[PASSED + me] = n + 1


def semaphore_storm(round_: Round) -> None:
    """A semaphore whose permits come back from the dead."""
    chance = round_.random
    permits, many, times = chance.randint(1, 3), chance.randint(2, 6), max(10, round_.items * 5)
    semaphore = synchronize.Semaphore(permits, recover=True)
    die = round_.marked(many, many - 1)
    who = [round_.start(guest, n, times, semaphore, permits, many, BEGUN, dies=die.get(n)) for n in range(many)]
    for n, point in die.items():
        round_.condemn(who[n], PASSED + n, times, point)
    round_.watch(lambda: all(gone(process.pid) for process in who))
    round_.finish()
    round_.tally.items += sum(book.words[PASSED : PASSED + many])
    wrong = sum(book.words[SPOILT : SPOILT + many])
    left = 0
    while left <= permits and semaphore.acquire(timeout=1):
        left += 1
    if left != permits or wrong:
        round_.tally.violated += 1
        round_.say(f"{left} of {permits} permits are left, {wrong} times too many were inside")


def follower(me: int, times: int, condition: Any) -> None:
    """Follows the number that the leader counts up."""
    for n in range(1, times + 1):
        with condition:
            while book.words[TOTAL] < n:
                condition.wait()
        book.words[PASSED + me] = n


def _all_have_come(who: list[Any], n: int) -> bool:
    return all(book.words[PASSED + i] >= n or gone(process.pid) for i, process in enumerate(who))


def condition_storm(round_: Round) -> None:
    """A leader counts, followers wait for each number in a condition."""
    chance = round_.random
    condition = ctx.Condition(synchronize.RLock(recover=True))
    many, times = chance.randint(2, 5), max(5, round_.items // 20)
    die = round_.marked(many, many - 1)
    who = [round_.start(follower, n, times, condition, dies=die.get(n)) for n in range(many)]
    for n, point in die.items():
        round_.condemn(who[n], PASSED + n, times, point)
    for n in range(1, times + 1):
        with condition:
            book.words[TOTAL] = n
            condition.notify_all() if chance.random() < 0.7 else condition.notify(many)
        # Every third time all have to come before it goes on.
        if n % 3 == 0:
            round_.watch(partial(_all_have_come, who, n))
        else:
            round_.strike()
    round_.watch(lambda: all(gone(process.pid) for process in who))
    round_.finish()
    round_.tally.items += sum(book.words[PASSED : PASSED + many])


def member(me: int, times: int, barrier: Any) -> None:
    """Passes the barrier, until it breaks."""
    for n in range(times):
        book.words[BEGUN + me] = n + 1
        try:
            barrier.wait()
        except (threading.BrokenBarrierError, DeadlockError):
            return
        book.words[PASSED + me] = n + 1


def barrier_storm(round_: Round) -> None:
    """Members of a barrier: if one dies, the others are told."""
    chance = round_.random
    many, times = chance.randint(2, 5), max(5, round_.items // 20)
    barrier = ctx.Barrier(many)
    die = round_.marked(many, many - 1)
    who = [round_.start(member, n, times, barrier, dies=die.get(n)) for n in range(many)]
    for n, point in die.items():
        round_.condemn(who[n], PASSED + n, times, point)
    round_.watch(lambda: any(gone(process.pid) for process in who))
    # Whoever waited there when a member died is told by the barrier; that somebody will not come is for us to tell.
    patience = time.monotonic() + 1
    round_.watch(lambda: all(gone(process.pid) for process in who) or time.monotonic() > patience)
    barrier.abort()
    round_.watch(lambda: all(gone(process.pid) for process in who))
    round_.finish()
    passed = [book.words[PASSED + n] for n in range(many)]
    begun = [book.words[BEGUN + n] for n in range(many)]
    round_.tally.items += sum(passed)
    # Nobody passes before all have come; without a death everybody passes every time.
    if max(passed) > min(begun) or (not round_.tally.killed and min(passed) < times):
        round_.tally.violated += 1
        round_.say(f"passed {passed}, begun {begun}, {round_.tally.killed} killed")


STORMS: dict[str, Callable[[Round], None]] = {
    "Queue": lambda round_: queue_storm(round_, ctx.Queue),
    "Queue(n)": lambda round_: queue_storm(round_, lambda: ctx.Queue(round_.random.randint(1, 8))),
    "SimpleQueue": lambda round_: queue_storm(round_, ctx.SimpleQueue),
    "JoinableQueue": lambda round_: queue_storm(round_, ctx.JoinableQueue, joins=True),
    "Pipe": pipe_storm,
    "Lock": lambda round_: lock_storm(round_, ctx.Lock, recover=True),
    "Lock(recover)": lambda round_: lock_storm(round_, lambda: synchronize.Lock(recover=True)),
    "RLock(recover)": lambda round_: lock_storm(round_, lambda: synchronize.RLock(recover=True)),
    "Semaphore": semaphore_storm,
    "Condition": condition_storm,
    "Barrier": barrier_storm,
}


def play(kind: str, seed: int, items: int, limit: float = LIMIT) -> Tally:
    """One round."""

    def too_long(*_: object) -> None:
        raise Blocked

    global book
    round_ = Round(seed, items)
    book = Book(WORDS * 8 + MOST * MOST * max(8, items))
    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        STORMS[kind](round_)
    except Blocked:
        round_.give_up()
    except Exception:
        round_.tally.errors += 1
        round_.say(traceback.format_exc())
        round_.give_up()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return round_.tally


def census() -> dict[str, int]:
    """What the root has, and the system keeps."""
    gc.collect()
    files = []
    for name in os.listdir("/proc/self/fd"):
        try:
            files.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass  # the one that lists
    children = 0  # zombies too
    for task in Path("/proc/self/task").iterdir():
        try:
            children += len((task / "children").read_text().split())
        except OSError:
            pass  # a thread that has just ended
    return {
        "descriptors": len(files),
        "memfds": sum("memfd:" in file for file in files),
        "children": children,
        "threads": len(os.listdir("/proc/self/task")),
        "bytes": _core.shared_usage()[0] if _core else 0,
    }


COLUMNS = [
    "rounds",
    "killed",
    "items",
    "in_hand",
    "lost",
    "doubled",
    "corrupt",
    "disorder",
    "blocked",
    "violated",
    "errors",
]


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--items", type=int, default=20_000, help="about so many, over all rounds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(STORMS), help="some of: %(default)s")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one round (default %(default)s)")
    options = parser.parse_args(arguments)
    kinds = options.kinds.split(",")
    tallies = {kind: Tally() for kind in kinds}
    share = max(20, options.items // options.rounds)
    for kind in kinds:
        play(kind, 0, 20)  # what is made once and kept
    before = census()
    for n in range(options.rounds):
        kind = kinds[n % len(kinds)]
        tally = play(kind, options.seed * 1_000_003 + n, share, options.limit)
        tallies[kind].add(tally)
        for words in tally.words:
            print(f"{kind}, round {n}, {words}", file=sys.stderr, flush=True)
        if fault.exists():
            print(fault.read_text(), file=sys.stderr, flush=True)
            fault.unlink()
    total = Tally()
    print(f"{'':15}" + "".join(f"{name.replace('_', ' '):>9}" for name in COLUMNS))
    for kind, tally in (*tallies.items(), ("all", total)):
        print(f"{kind:15}" + "".join(f"{getattr(tally, name):9}" for name in COLUMNS))
        if tally is not total:
            total.add(tally)
    after = census()
    left = {name: number - before[name] for name, number in after.items()}
    print("left: " + ", ".join(f"{number} {name}" for name, number in left.items()))
    return 1 if total.bad() or any(number > 0 for number in left.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
