"""Pools whose workers die: idle, in a task, while they read one, while they write its result."""

from __future__ import annotations

import pytest
from tests.faults.pools import ALL, check, every, forked, spawned, variants

ENDS = {"SIGKILL": "SIGKILL", "SIGSEGV": "SIGSEGV", "SIGABRT": "SIGABRT", "0": "0", "3": "3"}


@spawned
def test_killed_while_idle(pool: str) -> None:
    check(
        """
def main():
    with make(2) as pool:
        for turn in range(3):
            first, second = team(pool)
            victims = (first, second) if turn == 2 else (first,)
            for pid in victims: os.kill(pid, signal.SIGKILL)
            for pid in victims: until(lambda: gone(pid))
            assert got(send(pool, square, turn)) == turn * turn
            usable(pool)
""",
        pool,
    )


@variants("how", ENDS, ALL)
def test_gone_in_one_of_twenty_tasks(how: str, pool: str) -> None:
    check(
        f"""
def fatal(): quit_by("{how}")

def main():
    with make(2) as pool:
        tasks = among(pool, fatal)
        with fails(WorkerDied) as caught: got(tasks.handle)
        dead(caught.error, "fatal", "{ENDS[how]}", count("p"))
        tasks.right()
        usable(pool)
""",
        pool,
    )


@every
def test_all_workers_die_at_once(pool: str) -> None:
    check(
        """
def fatal(seat): seated(seat, 2); quit_by("SIGKILL")

def main():
    with make(2) as pool:
        bad = [send(pool, fatal, seat) for seat in range(2)]
        good = [send(pool, square, n) for n in range(20)]
        for one in bad:
            with fails(WorkerDied) as caught: got(one)
            dead(caught.error, "fatal", "SIGKILL")
        assert [got(one) for one in good] == squares(20)
        usable(pool)
""",
        pool,
    )


@every
def test_killed_in_one_item_of_a_map(pool: str) -> None:
    check(
        """
def some(n):
    if n == 10: quit_by("SIGKILL")
    return n * n

def main():
    with make(2) as pool:
        other = send(pool, square, 9)
        for chunk in (1, 5, None):
            with fails(WorkerDied) as caught: each(pool, some, range(20), chunk)
            dead(caught.error, "some", "SIGKILL", event="task started")
            assert each(pool, some, range(10), chunk) == squares(10)
        assert got(other) == 81
        usable(pool)
""",
        pool,
    )


@pytest.mark.parametrize("pool", ["Pool-fork", "Pool-spawn"])
@pytest.mark.parametrize("verb", ["imap", "imap_unordered"])
def test_killed_in_one_item_of_an_imap(verb: str, pool: str) -> None:
    check(
        f"""
def some(n):
    if n == 10: quit_by("SIGKILL")
    return n * n

def main():
    with make(2) as pool:
        results, found, died = pool.{verb}(some, range(20)), [], 0
        for _ in range(20):
            try: found.append(results.next(PATIENCE))
            except WorkerDied as error: dead(error, "some", "SIGKILL"); died += 1
        with raises(StopIteration): results.next(PATIENCE)
        assert died == 1 and sorted(found) == [n for n in squares(20) if n != 100], (died, found)
        if "{verb}" == "imap": assert found == sorted(found), found
        usable(pool)
""",
        pool,
    )


@every
def test_killed_while_it_reads_a_task(pool: str) -> None:
    check(
        """
def take(*parts): return len(parts)

def main():
    with make(2) as pool:
        for parts in ((Poison(),), (BLOB, Poison())):
            tasks = among(pool, take, *parts)
            with fails(WorkerDied) as caught: got(tasks.handle)
            dead(caught.error, "take", "SIGKILL", event="task taken")
            tasks.right()
        usable(pool)
""",
        pool,
    )


@every
def test_killed_while_it_pickles_a_result(pool: str) -> None:
    check(
        """
def give(large): return (BLOB, Deadly()) if large else Deadly()

def main():
    with make(2) as pool:
        for large in (False, True):
            tasks = among(pool, give, large)
            with fails(WorkerDied) as caught: got(tasks.handle)
            dead(caught.error, "give", "SIGKILL", event="task ended, its result on the way")
            tasks.right()
        usable(pool)
""",
        pool,
    )


@every
@pytest.mark.parametrize("way", ["reading", "writing"])
def test_killed_at_some_moment_of_a_large_message(way: str, pool: str) -> None:
    check(
        f"""
def reading(blob): return len(blob)
def writing(size): mark("w"); return bytes(size)

def main():
    moment = random.Random(3)
    with make(2) as pool:
        for turn in range(6):
            victim = team(pool)[turn % 2]
            mark("w", 0)
            handles = [send(pool, {way}, BLOB if "{way}" == "reading" else len(BLOB)) for _ in range(4)]
            if "{way}" == "writing": await_mark("w")
            spin(moment.random() * 0.03)
            os.kill(victim, signal.SIGKILL)
            died = 0
            for one in handles:
                try: assert got(one) == (len(BLOB) if "{way}" == "reading" else bytes(len(BLOB)))
                except WorkerDied as error: dead(error, "{way}", "SIGKILL", victim); died += 1
            assert died <= 1, died
        usable(pool)
""",
        pool,
        deadline=30,
    )


@every
def test_out_of_memory_and_killed_for_it(pool: str) -> None:
    check(
        """
def hungry():
    tight(64 << 20)
    try: return bytearray(512 << 20)
    except MemoryError: suicide()

def main():
    with make(2) as pool:
        tasks = among(pool, hungry)
        with fails(WorkerDied) as caught: got(tasks.handle)
        dead(caught.error, "hungry", "SIGKILL")
        tasks.right()
        usable(pool)
""",
        pool,
    )


# ---- who takes the place of the dead, and of their work


@spawned
def test_a_new_worker_is_made_like_the_others(pool: str) -> None:
    check(
        """
made = None
def begin(word): global made; made = word
def what(): return made
def fatal(): quit_by("SIGKILL")

def main():
    with make(2, initializer=begin, initargs=("ready",)) as pool:
        for _ in range(2):
            with fails(WorkerDied): got(send(pool, fatal))
            assert [got(one) for one in [send(pool, what) for _ in range(20)]] == ["ready"] * 20
        usable(pool)
""",
        pool,
    )


@every
def test_run_again_elsewhere(pool: str) -> None:
    check(
        """
def twice():
    bump("t")
    if count("t") < 3: quit_by("SIGKILL")
    return count("t")

def always(): bump("a"); quit_by("SIGKILL")
def wrong(): bump("w"); raise LookupError("the task's own")

def main():
    with make(2) as pool:
        patient = pool.options(retries=2)
        tasks = among(pool, twice, view=patient)
        assert got(tasks.handle) == 3
        tasks.right()
        tasks = among(pool, always, view=patient)
        with fails(WorkerDied) as caught: got(tasks.handle)
        dead(caught.error, "always", "SIGKILL")
        assert count("a") == 3
        tasks.right()
        with fails(LookupError, "the task's own"): got(send(patient, wrong))
        assert count("w") == 1
        mark("t", 0)
        with fails(WorkerDied): got(send(pool, twice))
        usable(pool)
""",
        pool,
    )


@every
def test_the_statistics_know_of_it(pool: str) -> None:
    check(
        """
def fatal(): quit_by("SIGKILL")

def main():
    with make(2) as pool:
        usable(pool)
        tasks, again = statistics(pool, "tasks"), statistics(pool, "restarts")
        assert again == 0 and tasks >= 23, (tasks, again)
        with fails(WorkerDied): got(send(pool, fatal))
        usable(pool)
        assert statistics(pool, "restarts") == 1
        assert statistics(pool, "tasks") >= tasks + 23
        assert statistics(pool, "busy") > 0 and statistics(pool, "waiting") > 0 and statistics(pool, "bytes") > 0
""",
        pool,
    )


@every
def test_a_function_that_the_worker_does_not_have(pool: str) -> None:
    check(
        """
import types

def main():
    ghost = types.ModuleType("ghost")
    with make(2) as pool:
        usable(pool)
        exec("def vanish(n): return n + 1", ghost.__dict__)
        sys.modules["ghost"] = ghost
        # Sent by value it works; by name it is an error here, and nobody dies of it.
        try: assert got(send(pool, ghost.vanish, 1)) == 2
        except WorkerDied: raise AssertionError("a worker died of it") from None
        except Exception as error: assert "vanish" in told(error) and "ghost" in told(error), told(error)
        usable(pool)
    del sys.modules["ghost"]
""",
        pool,
    )


@every
def test_made_before_its_function_is_defined(pool: str) -> None:
    check(
        """
def main():
    with make(2) as pool:
        usable(pool)
        exec("def late(n): return n + 1", globals())
        tasks = among(pool, late, 1)
        try: assert got(tasks.handle) == 2
        except WorkerDied: raise AssertionError("a worker died of it") from None
        except Exception as error: assert "late" in told(error), told(error)
        tasks.right()
        usable(pool)
""",
        pool,
    )


@forked
def test_a_worker_killed_again_and_again(pool: str) -> None:
    """A short soak; with more tasks it is a long one."""
    check(
        """
def work(n):
    mark("p", os.getpid())
    spin(0.0005)
    return n * n

def main():
    tasks, over, kills = int(sys.argv[1]), threading.Event(), []
    def killer():
        while not over.wait(0.05):
            if (pid := count("p")) and not gone(pid): os.kill(pid, signal.SIGKILL); kills.append(pid)
    with make(2) as pool:
        usable(pool)
        patient = pool.options(retries=1000)
        thread = threading.Thread(target=killer); thread.start()
        try:
            for begin in range(0, tasks, 1000):
                handles = [send(patient, work, n) for n in range(begin, begin + 1000)]
                assert [got(one) for one in handles] == [n * n for n in range(begin, begin + 1000)]
        finally: over.set(); thread.join()
        assert len(kills) > 3, kills
        usable(pool)
""",
        pool,
        "3000",
        deadline=40,
    )
