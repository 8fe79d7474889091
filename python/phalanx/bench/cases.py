"""What is measured: every case is a small Python program, the same text for both sides.

A program imports only standard modules and defines `run(rounds)`; one call of it is one sample. If it also defines
`close()`, the worker calls that when the case is over. Whether `threading.Lock` is the standard one or ours is decided
by the process the text runs in, never by the text.
"""

import fnmatch
import textwrap

from .case import Case
from .pools import POOL_CASES
from .processes import PROCESS_CASES

# Operations written out per turn of the `for` loop, where an operation is so short that the loop itself would show.
UNROLL = 4
BATCH = 1000


def _loop(
    group: str, name: str, target: float | None, setup: str, op: str, *, unroll: int = UNROLL, ops: int = 1
) -> Case:
    """A case in one thread: `setup` once, then `op` written `unroll` times in a loop; `op` counts as `ops`."""
    body = textwrap.indent(textwrap.dedent(op).strip() + "\n", " " * 8) * unroll
    source = f"{textwrap.dedent(setup).strip()}\n\ndef run(rounds):\n    for _ in range(rounds):\n{body}"
    return Case(group, name, target, unroll * ops, source)


def _two(group: str, name: str, target: float | None, setup: str, here: str, there: str, *, ops: int = 1) -> Case:
    """A case in two threads: the main thread does `here` once per round, a second one does `there`."""
    program = (
        "{setup}\n\n"
        "def other(rounds):\n    for _ in range(rounds):\n{there}\n"
        "def run(rounds):\n"
        "    thread = threading.Thread(target=other, args=(rounds,))\n"
        "    thread.start()\n"
        "    for _ in range(rounds):\n{here}"
        "    thread.join()\n"
    )
    parts = {"here": here, "there": there}
    bodies = {key: textwrap.indent(textwrap.dedent(text).strip() + "\n", " " * 8) for key, text in parts.items()}
    return Case(group, name, target, ops, program.format(setup=textwrap.dedent(setup).strip(), **bodies))


def _held(kind: str, target: float) -> list[Case]:
    """The two ways of taking a lock."""
    setup = f"import threading\nlock = threading.{kind}()"
    return [
        _loop("locks", f"with {kind}", target, setup, "with lock:\n    pass"),
        _loop("locks", f"{kind} acquire+release", target, setup, "lock.acquire()\nlock.release()"),
    ]


def _semaphore(kind: str) -> Case:
    setup = f"import threading\nsemaphore = threading.{kind}(4)"
    return _loop("locks", f"{kind} acquire+release", 8, setup, "semaphore.acquire()\nsemaphore.release()")


def _queue(kind: str, target: float | None) -> Case:
    setup = f"import queue\nq = queue.{kind}()"
    return _loop("queues", f"{kind} put+get", target, setup, "q.put(1)\nq.get()")


def _pipeline(maxsize: int) -> Case:
    """Main produces, the other thread consumes."""
    setup = f"import queue, threading\nq = queue.Queue({maxsize})"
    return _two("queues", f"Queue across 2 threads, maxsize {maxsize}", 8, setup, "q.put(1)", "q.get()")


def _pool(name: str, target: float, task: str, op: str, ops: int) -> Case:
    setup = f"""
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(max_workers=4)
close = pool.shutdown

{task}
"""
    return _loop("pools", name, target, setup, op, unroll=1, ops=ops)


_TAKE_LOCK = "with lock:\n    pass\n" * UNROLL

CASES: list[Case] = [
    *_held("Lock", 1.2),
    *_held("RLock", 1.2),
    _two(
        "locks",
        "Lock contended by 2 threads",
        None,
        "import threading\nlock = threading.Lock()",
        _TAKE_LOCK,
        _TAKE_LOCK,
        ops=2 * UNROLL,
    ),
    _semaphore("Semaphore"),
    _semaphore("BoundedSemaphore"),
    _loop(
        "signals",
        "Event set/is_set/clear",
        8,
        "import threading\nevent = threading.Event()",
        "event.set()\nevent.is_set()\nevent.clear()",
    ),
    _two(
        "signals",
        "Event ping-pong, 2 threads",
        2,
        "import threading\nping, pong = threading.Event(), threading.Event()",
        "ping.set()\npong.wait()\npong.clear()",
        "ping.wait()\nping.clear()\npong.set()",
    ),
    _loop(
        "signals",
        "Condition notify, nobody waits",
        2,
        "import threading\ncond = threading.Condition()",
        "with cond:\n    cond.notify()",
    ),
    # The turn makes sure that every notify finds the other thread waiting (or on its way there), so each one wakes it.
    _two(
        "signals",
        "Condition notify, one waiter woken",
        2,
        """
import threading
cond = threading.Condition()
turn = [0]
""",
        """
with cond:
    while turn[0] != 0:
        cond.wait()
    turn[0] = 1
    cond.notify()
""",
        """
with cond:
    while turn[0] != 1:
        cond.wait()
    turn[0] = 0
    cond.notify()
""",
        ops=2,
    ),
    _two(
        "signals",
        "Barrier round, 2 threads",
        2,
        "import threading\nbarrier = threading.Barrier(2)",
        "barrier.wait()",
        "barrier.wait()",
    ),
    _queue("Queue", 15),
    _queue("LifoQueue", 15),
    _queue("PriorityQueue", 4),
    _loop(
        "queues",
        "PriorityQueue get+put, 64 held",
        None,
        "import queue\nq = queue.PriorityQueue()\nfor number in range(64):\n    q.put(number)",
        "q.put(q.get() + 64)",
    ),
    _queue("SimpleQueue", None),
    _pipeline(0),
    _pipeline(100),
    _loop(
        "threads",
        "Thread start+join",
        1,
        "import threading\ndef task():\n    pass",
        "thread = threading.Thread(target=task)\nthread.start()\nthread.join()",
        unroll=1,
    ),
    _pool(
        "pool submit+result, 1000 at a time",
        6,
        "def task():\n    pass",
        f"for future in [pool.submit(task) for _ in range({BATCH})]:\n    future.result()",
        BATCH,
    ),
    _pool(
        "pool map over 1000",
        6,
        "def task(item):\n    return item",
        f"for _ in pool.map(task, range({BATCH})):\n    pass",
        BATCH,
    ),
    _pool("pool submit+result, one at a time", 2, "def task():\n    pass", "pool.submit(task).result()", 1),
    *PROCESS_CASES,
    *POOL_CASES,
    Case("start-up", "import phalanx", 25, 1, "import phalanx", kind="start"),
    # Importing may put work off; this is all of it, with the standard modules that get patched.
    Case("start-up", "import phalanx and install()", None, 1, "import phalanx; phalanx.install()", kind="start"),
]


def select(pattern: str | None) -> list[Case]:
    """The cases of the group `pattern`, or else those with `pattern` in their name, in any letter case.

    With `*`, `?` or `[` it must match the whole name.
    """
    if pattern is None:
        return list(CASES)
    wanted = pattern.lower()
    if any(mark in wanted for mark in "*?["):
        return [case for case in CASES if fnmatch.fnmatchcase(case.name.lower(), wanted)]
    group = [case for case in CASES if case.group == wanted]
    return group or [case for case in CASES if wanted in case.name.lower()]
