"""The cases about pools of processes: two workers, forked before the sample begins, and tasks that do little.

Against the standard library both sides run one text, as in `processes.py`. Against another package our side is what a
user of that package would write instead, and the tasks are the same.
"""

import textwrap

from .case import Case
from .processes import OURS, STD

FUTURES = "concurrent.futures import ProcessPoolExecutor"
TASK = "def task(x):\n    return x"
ARRAY = "import numpy\narray = numpy.arange(8 << 20, dtype=numpy.float64)"  # 64 MiB
# Busy for so many seconds by the clock, so a worker that is not running for a moment is not punished twice.
BLOCKS = """
import time

def task(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

blocks = [0.0002] * 400 + [0.008] * 50
"""

POOL = "pool = mp.Pool(2)"
EXECUTOR = "pool = ProcessPoolExecutor(2, mp_context=mp)"
TERMINATE = "def close():\n    pool.terminate()\n    pool.join()"
SHUTDOWN = "def close():\n    pool.shutdown()"

# What one sample does, over tasks that are there and with a pool that is there. One round is one task, or one array.
MAP_ONE = "pool.map(task, range(rounds), chunksize=1)"
SUBMIT_ALL = "for future in [pool.submit(task, i) for i in range(rounds)]:\n    future.result()"
SUBMIT_ONE = "for i in range(rounds):\n    pool.submit(task, i).result()"
APPLY = "for i in range(rounds):\n    pool.apply(task, (i,))"
ECHO = "for _ in range(rounds):\n    item = {}\n    item[0], item[-1]"


def _text(*parts: str) -> str:
    return "\n\n".join(textwrap.dedent(part).strip() for part in parts) + "\n"


def _head(origin: str, executor: bool) -> str:
    """The imports of a side: ours and the standard library's differ here and nowhere else."""
    lines = [origin]
    if executor:
        lines.append(f"from {'phalanx.' if origin == OURS else ''}{FUTURES}")
    return "\n".join([*lines, 'mp = multiprocessing.get_context("fork")'])


def _run(op: str) -> str:
    return "def run(rounds):\n" + textwrap.indent(op, "    ")


def _against_std(
    name: str,
    target: float,
    op: str,
    *,
    executor: bool = False,
    setup: str = TASK,
    ops: int = 1,
    first: int = 10,
    needs: tuple[str, ...] = (),
) -> Case:
    """The same program for both. It begins with one task, so that all workers are there."""
    pool, close = (EXECUTOR, SHUTDOWN) if executor else (POOL, TERMINATE)
    ours, other = (
        _text(_head(origin, executor), setup, f"{pool}\nlist(pool.map(abs, range(8)))", _run(op), close)
        for origin in (OURS, STD)
    )
    return Case("process pools", name, target, ops, ours, other=other, first=first, needs=needs)


def _first_result(name: str, executor: bool) -> Case:
    """A pool from nothing to its first answer; its end is not counted."""
    make, ask, close = (
        (EXECUTOR, "pool.submit(task, 1).result()", "pool.shutdown()")
        if executor
        else (POOL, "pool.apply(task, (1,))", "pool.terminate()\npool.join()")
    )
    op = (
        "took = 0\nfor _ in range(rounds):\n    begin = time.perf_counter_ns()\n"
        f"    {make}\n    {ask}\n    took += time.perf_counter_ns() - begin\n"
        f"{textwrap.indent(close, '    ')}\nreturn took"
    )
    ours, other = (_text(_head(origin, executor), "import time", TASK, _run(op)) for origin in (OURS, STD))
    return Case("process pools", name, 1, 1, ours, other=other)


# How each of the others does it: what makes the pool, what ends it, one task at a time, all tasks, one array.
_RIVALS: dict[str, tuple[str, str, str, str, str]] = {
    "loky": (
        "from loky import ProcessPoolExecutor\npool = ProcessPoolExecutor(max_workers=2)",
        "def close():\n    pool.shutdown(kill_workers=True)",
        SUBMIT_ONE,
        SUBMIT_ALL,
        ECHO.format("pool.submit(task, array).result()"),
    ),
    "joblib": (
        "from joblib import Parallel, delayed\npool = Parallel(n_jobs=2, batch_size=1, max_nbytes=None).__enter__()",
        "def close():\n    pool.__exit__(None, None, None)",
        "for i in range(rounds):\n    pool([delayed(task)(i)])",
        "pool(delayed(task)(i) for i in range(rounds))",
        ECHO.format("pool([delayed(task)(array)])[0]"),
    ),
    "mpire": (
        'from mpire import WorkerPool\npool = WorkerPool(n_jobs=2, start_method="fork", keep_alive=True)',
        "def close():\n    pool.terminate()",
        "for i in range(rounds):\n    pool.apply(task, (i,))",
        "pool.map(task, range(rounds), chunk_size=1)",
        ECHO.format("pool.apply(task, (array,))"),
    ),
    "pebble": (
        """
        import multiprocessing
        from pebble import ProcessPool
        pool = ProcessPool(max_workers=2, context=multiprocessing.get_context("fork"))
        """,
        "def close():\n    pool.stop()\n    pool.join()",
        "for i in range(rounds):\n    pool.schedule(task, args=(i,)).result()",
        "list(pool.map(task, range(rounds), chunksize=1).result())",
        ECHO.format("pool.schedule(task, args=(array,)).result()"),
    ),
    "billiard": (
        "import billiard\npool = billiard.Pool(2)",
        TERMINATE,
        APPLY,
        MAP_ONE,
        ECHO.format("pool.apply(task, (array,))"),
    ),
}


def _against(rival: str) -> list[Case]:
    """Latency, throughput at one message per task, and a large array there and back."""
    make, close, one, all_of_them, echo = _RIVALS[rival]
    executor = rival == "loky"  # the one with the same verbs
    ours = (EXECUTOR, SHUTDOWN) if executor else (POOL, TERMINATE)
    head = _head(OURS, executor)
    cases = []
    for what, here, there, setup, needs in (
        ("one at a time", SUBMIT_ONE if executor else APPLY, one, TASK, ()),
        ("all at once", SUBMIT_ALL if executor else MAP_ONE, all_of_them, TASK, ()),
        (
            "64 MiB array there and back",
            ECHO.format("pool.submit(task, array).result()" if executor else "pool.apply(task, (array,))"),
            echo,
            f"{TASK}\n\n{ARRAY}",
            ("numpy",),
        ),
    ):
        source = _text(head, setup, ours[0], _run(here), ours[1])
        other = _text(setup, make, _run(there), close)
        first = 1 if needs else 10
        name = f"{rival}, {what}"
        cases.append(Case(rival, name, 1, 1, source, other=other, first=first, needs=(rival, *needs)))
    return cases


POOL_CASES: list[Case] = [
    _against_std("Pool.map, chunksize 1", 15, MAP_ONE),
    _against_std("Pool.map, chunks by default", 1, "pool.map(task, range(1000 * rounds))", ops=1000, first=1),
    _against_std("Pool.imap", 10, "for _ in pool.imap(task, range(rounds)):\n    pass"),
    _against_std("Pool.apply, one at a time", 10, APPLY),
    _against_std(
        "Pool.map, a slow block at the end",
        1.3,
        "for _ in range(rounds):\n    pool.map(task, blocks)",
        setup=BLOCKS,
        ops=450,
        first=1,
    ),
    _against_std("executor submit, all at once", 25, SUBMIT_ALL, executor=True),
    _against_std("executor submit, one at a time", 10, SUBMIT_ONE, executor=True),
    _against_std(
        "Pool, 64 MiB array there and back",
        15,
        ECHO.format("pool.apply(task, (array,))"),
        setup=f"{TASK}\n\n{ARRAY}",
        first=1,
        needs=("numpy",),
    ),
    _first_result("Pool, start to first result", False),
    _first_result("executor, start to first result", True),
    *[case for rival in _RIVALS for case in _against(rival)],
]
