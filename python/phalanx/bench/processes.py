"""The cases about processes: complete programs, since a child of `spawn` imports the file that its parent ran.

Both sides get the same text, but for the lines that say whose `multiprocessing` it is. The two other packages have no
`multiprocessing` to replace, so a case against one of them has a text of its own for their side.
"""

import math
import textwrap

from .case import Case

OURS = "from phalanx import multiprocessing"
STD = "import multiprocessing"
# Groups in which the other side is the package of that name.
RIVALS = ("faster-fifo", "zooparallel", "loky", "joblib", "mpire", "pebble", "billiard")
UNROLL = 4
EACH = "for _ in range(count)"

# The ends of a channel, each in its process. They work for a while untimed, which brings memory, caches and helper
# threads into the state of a program that has been running; then they meet at two plain pipes. Each notes when it
# began and when it was done; the clock is the same for all of them. Quotas are per round, so nobody has to be told
# that the last item is through.
TOGETHER = """
import os, struct, time

def span(job, count):
    begin = time.perf_counter_ns()
    job(count)
    return begin, time.perf_counter_ns()

def member(job, warm, count, ready, go, out):
    job(warm)
    os.write(ready, b"r")
    os.read(go, 1)
    os.write(out, struct.pack("qq", *span(job, count)))

def together(rounds, warm, here, *there):
    (ready, set_ready), (go, set_go), (out, set_out) = pipes = [os.pipe() for _ in range(3)]
    members = [
        mp.Process(target=member, args=(job, warm * quota, rounds * quota, set_ready, go, set_out))
        for job, quota in there
    ]
    for process in members:
        process.start()
    for end in (set_ready, go, set_out):
        os.close(end)
    if here:
        job, quota = here
        job(warm * quota)
    for _ in members:
        assert os.read(ready, 1), "a process died"
    os.write(set_go, b"g" * len(members))
    spans = [span(job, rounds * quota)] if here else []
    for _ in members:
        spans.append(struct.unpack("qq", os.read(out, 16)))
    for process in members:
        process.join()
    for end in (ready, set_go, out):
        os.close(end)
    return max(end for _, end in spans) - min(begin for begin, _ in spans)
"""

RESIDENT = """
def resident():
    with open("/proc/self/status") as lines:
        fields = [line.split() for line in lines if line.startswith(("RssAnon:", "RssShmem:"))]
    return sum(int(kib) * 1024 for _, kib, _ in fields)
"""


def _text(text: str) -> str:
    return textwrap.dedent(text).strip() + "\n"


def _head(origin: str) -> str:
    # Jobs of these programs are closures and find their pipes by number.
    return f'{origin}\nmp = multiprocessing.get_context("fork")\n'


def _program(
    group: str,
    name: str,
    target: float | None,
    body: str,
    *,
    ops: int = 1,
    first: int = 1,
    needs: tuple[str, ...] = (),
    rival: str | None = None,
) -> Case:
    """The same program for both; where `rival` is given, that is the other side's."""
    ours = _head(OURS) + _text(body)
    other = _head(STD) + _text(body if rival is None else rival)
    return Case(group, name, target, ops, ours, other=other, first=first, needs=needs)


def _flow(
    setup: str, put: str, get: str, *, warm: int = 200, ends: tuple[int, int] | None = None, turn: str = EACH
) -> str:
    """A program that sends items one way; `put` may use `i`, `get` is done at every `turn`.

    Without `ends` one child puts and the parent gets, otherwise so many children do each.
    """
    who = "(getter, 1), (putter, 1)"
    if ends is not None:
        putters, getters = ends
        common = math.gcd(putters, getters)
        who = f"None, *[(putter, {getters // common})] * {putters}, *[(getter, {putters // common})] * {getters}"
    return (
        f"{TOGETHER}\n{_text(setup)}\n"
        f"def putter(count):\n    for i in range(count):\n{_indent(put)}\n"
        f"def getter(count):\n    {turn}:\n{_indent(get)}\n"
        f"def run(rounds):\n    return together(rounds, {warm}, {who})\n"
    )


def _indent(text: str, depth: int = 8) -> str:
    return textwrap.indent(_text(text), " " * depth)


def _loop(setup: str, op: str, *, unroll: int = UNROLL) -> str:
    """A program that only loops, in one process."""
    return f"{_text(setup)}\ndef run(rounds):\n    for _ in range(rounds):\n{_indent(op) * unroll}"


def _contend(setup: str, op: str, processes: int) -> str:
    """A program that does the same in so many processes at once."""
    return (
        f"{TOGETHER}\n{_text(setup)}\n"
        f"def job(count):\n    for _ in range(count):\n{_indent(op) * UNROLL}\n"
        f"def run(rounds):\n    return together(rounds, 20, None, *[(job, 1)] * {processes})\n"
    )


QUEUE = "q = mp.Queue()"
ADD = "with v.get_lock():\n    v.value += 1"
VALUE = 'v = mp.Value("i", 0)'
PASS = "with lock:\n    pass"
ARRAY = "import numpy\narray = numpy.arange(8 << 20, dtype=numpy.float64)"  # 64 MiB


def _queue(name: str, target: float, put: str) -> Case:
    return _program("processes", name, target, _flow(QUEUE, put, "q.get()"), first=20)


def _array(name: str, target: float | None, read: str, *, back: bool) -> Case:
    """One array at a time, so that what waits in the queue is not what is measured."""
    there = "item = q.get()\nb.put(item)" if back else "os.read(want, 1)\nq.put(array)"
    here = f"q.put(array)\nitem = b.get()\n{read}" if back else f'os.write(tell, b"1")\nitem = q.get()\n{read}'
    body = (
        f"{TOGETHER}\n{ARRAY}\nq, b = mp.Queue(), mp.Queue()\nwant, tell = os.pipe()\n\n"
        f"def there(count):\n    for _ in range(count):\n{_indent(there)}\n"
        f"def here(count):\n    for _ in range(count):\n{_indent(here)}\n"
        "def run(rounds):\n    return together(rounds, 1, (here, 1), (there, 1))\n"
    )
    return _program("processes", name, target, body, needs=("numpy",))


def _start(method: str, target: float) -> Case:
    body = f"""
def task():
    pass

def run(rounds):
    context = multiprocessing.get_context("{method}")
    for _ in range(rounds):
        process = context.Process(target=task)
        process.start()
        process.join()
        assert process.exitcode == 0
"""
    name = f"Process start+join, {method}"
    return Case("processes", name, target, 1, f"{OURS}\n{body}", other=f"{STD}\n{body}")


def _memory(name: str, kilobytes: float, body: str) -> Case:
    # No context: a queue made by the module is what a program has.
    ours, other = (f"{origin} as mp\n{RESIDENT}\n{_text(body)}" for origin in (OURS, STD))
    return Case("memory", name, kilobytes, 1, ours, kind="memory", other=other)


def _faster_fifo(putters: int, getters: int, *, many: bool) -> Case:
    """The cases of its README: tuples of five, room for 100,000 (theirs counts bytes)."""
    ends = (putters, getters)
    put = "q.put((i, i, i, i, i))"
    setup = "from faster_fifo import Queue\nq = Queue(100_000)"
    if many:
        get = "count -= len(q.get_many(max_messages_to_get=min(100, count)))"
        theirs = _flow(setup, put, get, warm=20, ends=ends, turn="while count")
    else:
        theirs = _flow(setup, put, "q.get()", warm=20, ends=ends)
    return _program(
        "faster-fifo",
        f"faster-fifo get{'_many' if many else ''}, {putters} put, {getters} get",
        1,
        _flow("q = mp.Queue(100_000)", put, "q.get()", warm=20, ends=ends),
        rival=theirs,
        ops=math.lcm(putters, getters),
        first=20,
        needs=("faster_fifo",),
    )


# Gone by name at once; the children inherit the mapping.
_ZOO_LOCK = """
import os
from zooparallel import ZooLock
name = f"phalanx-bench-{os.getpid()}"
lock = ZooLock(name)
ZooLock.unlink(name)
"""
_ZOO_QUEUE = """
import os
from zooparallel import ZooQueue
name = f"phalanx-bench-{os.getpid()}"
q = ZooQueue(name, 200)
ZooQueue.unlink(name)
payload = b"x" * {size}
"""


def _zoo(name: str, body: str, rival: str, *, ops: int = 1, first: int = 1) -> Case:
    return _program("zooparallel", name, 1, body, rival=rival, ops=ops, first=first, needs=("zooparallel",))


def _zoo_lock(processes: int) -> Case:
    if processes == 1:
        ours, theirs = (_loop(setup, PASS) for setup in ("lock = mp.Lock()", _ZOO_LOCK))
        return _zoo("zooparallel Lock", ours, theirs, ops=UNROLL)
    ours, theirs = (_contend(setup, PASS, processes) for setup in ("lock = mp.Lock()", _ZOO_LOCK))
    return _zoo(f"zooparallel Lock, {processes} processes", ours, theirs, ops=UNROLL * processes, first=20)


def _zoo_queue(label: str, size: int, *, view: bool = False) -> Case:
    theirs = _ZOO_QUEUE.replace("{size}", str(size))
    get = "with q.recv_view():\n    pass" if view else "q.get_bytes()"
    return _zoo(
        f"zooparallel Queue{' view' if view else ''}, {label}",
        _flow(f'{QUEUE}\npayload = b"x" * {size}', "q.put(payload)", "q.get()", warm=10),
        _flow(theirs, "q.put_bytes(payload)", get, warm=10),
        first=10,
    )


def _zoo_pool(name: str, task: str, items: str, size_mb: int) -> Case:
    """One message per task on both sides; left alone, `Pool.map` would send a few large lumps."""
    ours = f"""
{task}

pool = mp.Pool(4)

def run(rounds):
    pool.map(task, {items}, chunksize=1)

def close():
    pool.terminate()
    pool.join()
"""
    theirs = f"""
from zooparallel import ZooPool

{task}

pool = ZooPool(num_workers=4, buffer_size_mb={size_mb})
close = pool.shutdown

def run(rounds):
    pool.map(task, {items})
"""
    return _zoo(name, ours, theirs, first=10)


PROCESS_CASES: list[Case] = [
    _queue("process Queue, ints", 20, "q.put(i)"),
    _queue("process Queue, tuples of 3", 8, 'q.put((i, "name", 1.5))'),
    _program(
        "processes",
        "process Queue, 1 MiB bytes",
        8,
        _flow(f'{QUEUE}\npayload = b"x" * (1 << 20)', "q.put(payload)", "q.get()", warm=4),
    ),
    _program(
        "processes",
        "process Queue, ints, 2 put, 2 get",
        8,
        _flow(QUEUE, "q.put(i)", "q.get()", ends=(2, 2)),
        ops=2,
        first=20,
    ),
    _program(
        "processes", "process SimpleQueue, ints", 15, _flow("q = mp.SimpleQueue()", "q.put(i)", "q.get()"), first=20
    ),
    _program(
        "processes",
        "Pipe there and back",
        10,
        _flow("here, there = mp.Pipe()", "there.send(there.recv())", "here.send(1)\nhere.recv()", warm=100),
        first=20,
    ),
    _program("processes", "Value += 1 under its lock", 2, _loop(VALUE, ADD), ops=UNROLL),
    _program("processes", "Value += 1, 2 processes", 2, _contend(VALUE, ADD, 2), ops=2 * UNROLL, first=20),
    _program(
        "processes",
        "process Lock acquire+release",
        1.2,
        _loop("lock = mp.Lock()", "lock.acquire()\nlock.release()"),
        ops=UNROLL,
    ),
    _program(
        "processes",
        "Manager dict set+get",
        15,
        _loop(
            "manager = mp.Manager()\nd = manager.dict()\nclose = manager.shutdown",
            'd["key"] = 1\nd["key"]',
            unroll=1,
        ),
    ),
    _array("64 MiB array through a Queue", 15, "item[0], item[-1]", back=False),
    _array("64 MiB array there and back", 15, "item[0], item[-1]", back=True),
    _array("64 MiB array, every number read", None, "item.sum()", back=False),
    _start("fork", 1),
    _start("forkserver", 1),
    _start("spawn", 4),
    _memory(
        "idle process Queue",
        100,
        """
        def fresh():
            q = mp.Queue()
            q.put(1)
            q.get()
            return q

        def run(rounds):
            queues = [fresh()]
            before = resident()
            queues += [fresh() for _ in range(100)]
            return (resident() - before) // 100
        """,
    ),
    _memory(
        "1 million ints in a process Queue",
        40_000,
        """
        q = mp.Queue()

        def run(rounds):
            q.put(0)
            assert q.get() == 0
            before = resident()
            for number in range(1_000_000):
                q.put(number)
            grown = resident() - before
            assert [q.get() for _ in range(1000)] == list(range(1000))
            return grown

        def close():
            q.cancel_join_thread()
        """,
    ),
    *[
        _faster_fifo(putters, getters, many=many)
        for putters, getters in ((1, 1), (1, 10), (10, 1), (3, 20), (20, 3), (20, 20))
        for many in (False, True)
    ],
    _zoo_lock(1),
    _zoo_lock(2),
    _zoo_lock(4),
    _zoo_queue("1 KiB", 1 << 10),
    _zoo_queue("64 KiB", 64 << 10),
    _zoo_queue("1 MiB", 1 << 20),
    _zoo_queue("1 KiB", 1 << 10, view=True),
    _zoo_queue("64 KiB", 64 << 10, view=True),
    _zoo_queue("1 MiB", 1 << 20, view=True),
    _zoo_pool("zooparallel Pool, small tasks", "def task(x):\n    return x + 1", "range(rounds)", 10),
    _zoo_pool(
        "zooparallel Pool, 1 MiB tasks",
        'payload = b"x" * (1 << 20)\n\ndef task(data):\n    return len(data)',
        "[payload] * rounds",
        150,
    ),
]
