"""Pools told what to do: initializers, time limits, cancelling, terminating; pools in pools and in threads."""

from __future__ import annotations

import pytest
from tests.faults.pools import FORKED, check, every, forked, spawned, variants

STUCK = ("in C", "sleeps", "computes", "stopped")

# ---- initializers


@spawned
def test_an_initializer_that_raises(pool: str) -> None:
    check(
        """
def begin(n): raise LookupError("no such place")

def main():
    with fails(Exception, "no such place", "LookupError", "begin"):
        with make(2, initializer=begin, initargs=(1,)) as pool: got(send(pool, square, 3))
    with make(2) as pool: usable(pool)
""",
        pool,
        quiet=False,
    )


@variants("how", ["SIGKILL", "0"])
def test_an_initializer_that_ends_its_worker(how: str, pool: str) -> None:
    check(
        f"""
def begin(): quit_by("{how}")

def main():
    with fails(Exception, "begin"):
        with make(2, initializer=begin) as pool: got(send(pool, square, 3))
    with make(2) as pool: usable(pool)
""",
        pool,
        quiet=False,
    )


# ---- time limits


@variants("how", STUCK)
def test_a_time_limit_ends_the_task(how: str, pool: str) -> None:
    check(
        f"""
def main():
    with make(2) as pool:
        team(pool)
        limited = pool.options(timeout=0.3)
        tasks = among(pool, stuck, "{how}", view=limited)
        with fails(TIMEOUT, "stuck"): got(tasks.handle)
        assert gone(count("s")), "the worker is still there"
        tasks.right()
        assert each(limited, square, range(10)) == squares(10)
        usable(pool)
""",
        pool,
    )


@every
def test_a_time_limit_is_for_each_task(pool: str) -> None:
    check(
        """
def nap(n): time.sleep(0.05); return n

def main():
    with make(2) as pool:
        # A chunk takes longer than the limit, and the second one waits as long before.
        assert each(pool.options(timeout=0.7), nap, range(80), 20) == list(range(80))
        with fails(TIMEOUT, "nap"): each(pool.options(timeout=0.02), nap, range(4))
        assert got(send(pool, nap, 3)) == 3
        usable(pool)
""",
        pool,
    )


def test_a_time_limit_of_a_thread_pool() -> None:
    check(
        """
def slow(): await_mark("g"); return 1

def main():
    pools = importlib.import_module(mp.__name__ + ".pool")
    with pools.ThreadPool(2) as pool:
        limited = pool.options(timeout=0.1)
        bad, good = limited.apply_async(slow), [pool.apply_async(square, (n,)) for n in range(20)]
        with fails(TIMEOUT, "slow"): got(bad)
        assert [got(one) for one in good] == squares(20)
        mark("g")
        assert limited.map(square, range(9)) == squares(9) and pool.apply(square, (3,)) == 9
        pool.close(); pool.join()
""",
        "Pool-fork",
    )


# ---- cancelled


@every
def test_cancelled_before_it_began(pool: str) -> None:
    check(
        """
def note(n): mark(chr(n)); return n

def main():
    with make(2) as pool:
        team(pool)
        busy = [send(pool, hold_until, "g") for _ in range(2)]
        queued = [send(pool, note, ord("k") + n) for n in range(6)]
        settled(lambda: 0)  # whatever is sent ahead to a busy worker is there by now
        for n in (0, 3, 5):
            assert queued[n].cancel() is True
            with fails(CancelledError): got(queued[n])
        mark("g")
        assert [got(queued[n]) for n in (1, 2, 4)] == [ord("k") + n for n in (1, 2, 4)]
        for one in busy: got(one)
        usable(pool)
        assert [count(chr(ord("k") + n)) for n in range(6)] == [0, 1, 1, 0, 1, 0]
        assert busy[0].cancel() is False and got(busy[0])
""",
        pool,
    )


@variants("how", STUCK)
def test_cancelled_while_it_runs(how: str, pool: str) -> None:
    check(
        f"""
def main():
    with make(2) as pool:
        team(pool)
        tasks = among(pool, stuck, "{how}")
        await_mark("s")
        assert not tasks.handle.cancel() and not ready(tasks.handle)
        assert tasks.handle.cancel(running=True) is True
        with fails(CancelledError): got(tasks.handle)
        until(lambda: gone(count("s")), "the end of its worker", ON_TIME)
        tasks.right()
        usable(pool)
""",
        pool,
    )


# ---- terminated


@variants("how", STUCK)
def test_terminated_with_a_stuck_worker(how: str, pool: str) -> None:
    check(
        f"""
def main():
    pool = make(2)
    one, other = team(pool)
    bad = send(pool, stuck, "{how}")
    queued = [send(pool, hold_until, "g") for _ in range(10)]
    await_mark("s")
    stop(pool)
    for pid in (one, other): until(lambda: gone(pid), "the end of a worker", ON_TIME)
    for handle in (bad, *queued):
        with fails((CancelledError, WorkerDied, RuntimeError, OSError)): got(handle)
    with fails((ValueError, RuntimeError)): send(pool, square, 1)
""",
        pool,
    )


@every
def test_closed_with_work_to_do(pool: str) -> None:
    check(
        """
def nap(n): time.sleep(0.01); return n

def main():
    pool = make(2)
    handles = [send(pool, nap, n) for n in range(20)]
    close(pool)
    assert [got(one, 0) for one in handles] == list(range(20))
    with fails((ValueError, RuntimeError)): send(pool, square, 1)
""",
        pool,
    )


# ---- memory, progress


@every
def test_a_limit_of_memory(pool: str) -> None:
    check(
        """
def hungry(): return len(b"x" * (600 << 20))

def main():
    with make(2) as pool:
        limited = pool.options(memory=300 << 20)
        tasks = among(pool, hungry, view=limited)
        with fails((MemoryError, WorkerDied), "emory", "hungry"): got(tasks.handle)
        tasks.right()
        assert each(limited, square, range(10)) == squares(10)
        assert got(send(pool, hungry)) == 600 << 20  # without the view there is none
        usable(pool)
""",
        pool,
    )


@forked
def test_progress_goes_on_where_tasks_fail(pool: str) -> None:
    check(
        """
def some(n):
    if n == 5: quit_by("SIGKILL")
    return n * n

def main():
    told = []
    try: import tqdm; tqdm.tqdm.monitor_interval = 0  # or it leaves a thread of its own
    except ImportError: pass
    with make(2) as pool:
        view = pool.options(on_progress=lambda *args, **more: told.append((args, more)))
        assert each(view, square, range(20)) == squares(20) and told
        del told[:]
        with fails(WorkerDied): each(view, some, range(20))
        def broken(*args, **more): raise LookupError("the callback's own fault")
        try: assert each(pool.options(on_progress=broken), square, range(20)) == squares(20)
        except LookupError: pass
        assert each(pool.options(progress=True), square, range(20)) == squares(20)
        usable(pool)
""",
        pool,
        quiet=False,
    )


@every
def test_a_callback_that_raises(pool: str) -> None:
    check(
        """
def broken(result): mark("c"); raise LookupError("the callback's own fault")

def main():
    with make(2) as pool:
        if POOL == "Pool": one = pool.apply_async(square, (3,), callback=broken)
        else: one = pool.submit(square, 3); one.add_done_callback(broken)
        assert got(one) == 9
        await_mark("c")
        usable(pool)
""",
        pool,
        quiet=False,
    )


# ---- pools in tasks and threads


@spawned
def test_a_pool_in_a_task_of_a_pool(pool: str) -> None:
    check(
        """
def inner(n):
    with make(2) as pool: return sum(each(pool, square, range(n)))

def main():
    with make(2) as pool:
        assert each(pool, inner, range(4)) == [sum(squares(n)) for n in range(4)]
        usable(pool)
""",
        pool,
        deadline=30,
    )


@every
def test_eight_threads_with_one_pool(pool: str) -> None:
    check(
        """
def fatal(): quit_by("SIGKILL")

def main():
    found, died = {}, []
    with make(2) as pool:
        usable(pool)
        def use(who):
            handles = [send(pool, square, who * 100 + n) for n in range(100)]
            if who % 4 == 0:
                try: got(send(pool, fatal))
                except WorkerDied: died.append(who)
            found[who] = [got(one) for one in handles] + each(pool, square, range(20), 3)
        threads = [threading.Thread(target=use, args=(who,)) for who in range(8)]
        for one in threads: one.start()
        for one in threads: one.join()
        assert sorted(died) == [0, 4], died
        for who in range(8): assert found[who] == [(who * 100 + n) ** 2 for n in range(100)] + squares(20), who
        usable(pool)
""",
        pool,
    )


# Right, or an error that names the task: but never silence.
AGAIN = """
def said(handle, wanted, *words):
    try: assert got(handle) == wanted
    except AssertionError: raise
    except Exception as error:
        text = told(error)
        assert all(word in text for word in words), text
"""


@pytest.mark.parametrize("pool", FORKED)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_waits_for_a_task_of_its_own_pool(workers: int, pool: str) -> None:
    check(
        f"""{AGAIN}
pool = None
def outer(n): return answer(send(pool, square, n)) + 1

def main():
    global pool
    # The workers that are forked later know of the pool by its name.
    with make({workers}, **({{"tasks_per_child": 1}} if POOL == "Pool" else {{}})) as pool:
        for n in range({workers} if POOL == "Pool" else 0): got(send(pool, square, n))
        handles = [send(pool, outer, n) for n in range(4)]
        for n, one in enumerate(handles): said(one, n * n + 1, "outer")
        assert got(send(pool, square, 3)) == 9
    pool = None
""",
        pool,
    )


@spawned
def test_a_task_that_is_handed_its_own_pool(pool: str) -> None:
    check(
        f"""{AGAIN}
def outer(pool, n): return answer(send(pool, square, n)) + 1

def fib(pool, n): return n if n < 2 else answer(send(pool, fib, pool, n - 1)) + fib(pool, n - 2)

def handed(pool, task, n):
    try: return send(pool, task, pool, n)
    except Exception as error: assert isinstance(error, REFUSED) and task.__name__ in told(error), told(error)

def main():
    with make(2) as pool:
        for n, one in enumerate([handed(pool, outer, n) for n in range(4)]):
            if one: said(one, n * n + 1, "outer")
        if one := handed(pool, fib, 7): said(one, 13, "fib")
        usable(pool)
""",
        pool,
    )


@every
def test_a_task_that_never_stops_calling_itself(pool: str) -> None:
    check(
        """
def down(n): return down(n + 1) + 1

def main():
    with make(2) as pool:
        tasks = among(pool, down, 0)
        with fails(RecursionError, "down"): got(tasks.handle)
        tasks.right()
        usable(pool)
""",
        pool,
    )


@forked
def test_forked_while_another_thread_holds_a_lock(pool: str) -> None:
    check(
        """
lock = threading.Lock()
def careful(n):
    with lock: return n

def keep():
    with lock: mark("k"); await_mark("g")

def main():
    keeper = threading.Thread(target=keep); keeper.start(); await_mark("k")
    with make(2) as pool:
        team(pool)
        tasks = among(pool, careful, 1)
        with fails((DeadlockError, RemoteError), "careful", "DeadlockError"): got(tasks.handle)
        tasks.right()
        mark("g"); keeper.join()
        usable(pool)
    with make(2) as pool: assert got(send(pool, careful, 1)) == 1
""",
        pool,
    )
