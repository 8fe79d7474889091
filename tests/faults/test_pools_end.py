"""The ends of pools: Ctrl-C, a parent that is killed or leaves without closing, a program without a main guard."""

from __future__ import annotations

import pytest
from tests.faults.pools import ALL, check, every, variants

# ---- Ctrl-C

INTERRUPTED = '''
PROGRAM = """
def nap(n): time.sleep(0.5)
def work(n):
    while True: pass
if __name__ == "__main__":
    with make(2) as pool:
        one, other = team(pool)
        mark("u", one); mark("v", other)
        mark("r")
        for _ in pool.map(globals()[sys.argv[1]], range(1000)): pass
"""
'''


@variants("task", ["nap", "work"], ALL)
def test_ctrl_c_for_all_in_the_middle_of_a_map(task: str, pool: str) -> None:
    check(
        f"""{INTERRUPTED}
def main():
    program = Program(PROGRAM, "{task}")
    await_mark("r"); asleep(program.pid)
    os.killpg(program.pid, signal.SIGINT)
    assert program.ended(ON_TIME) in (-signal.SIGINT, 1, 130), program.err
    for letter in "uv": until(lambda: gone(count(letter)), "the end of a worker", ON_TIME)
    assert program.err.count("Traceback") == 1 and program.err.count("KeyboardInterrupt") == 1, program.err
""",
        pool,
    )


@every
def test_ctrl_c_for_the_parent_that_goes_on(pool: str) -> None:
    check(
        """
def nap(n): time.sleep(0.1); return n

def main():
    with make(2) as pool:
        usable(pool)
        for _ in range(2):
            other = send(pool, hold_until, "g")
            sender = interrupt_when_asleep(os.getpid())
            with raises(KeyboardInterrupt): answer(other)
            os.waitpid(sender, 0)
            mark("g")
            assert got(other) > 0
            mark("g", 0)
        usable(pool)
    # The senders were forked past the library, and hold what this process held: who waits at the door buries them.
    ctx.Semaphore(0).acquire(timeout=0.5)
""",
        pool,
    )


# ---- the parent ends

WORK = {
    "idle": "pass",
    "in C": 'send(pool, stuck, "in C"); send(pool, stuck, "sleeps"); await_mark("s")',
}


@every
@pytest.mark.parametrize("number", [9, 15])
@pytest.mark.parametrize("work", ["idle", "in C"])
def test_the_parent_is_killed(work: str, number: int, pool: str) -> None:
    check(
        f"""
def main():
    pool = make(2)
    team(pool)
    {WORK[work]}
    os.kill(os.getpid(), {number})
    forever()
""",
        pool,
        code=-number,
        quiet=False,
    )


@every
def test_the_parent_is_killed_while_results_are_on_their_way(pool: str) -> None:
    check(
        """
def give(): mark("w"); return BLOB * 5

def main():
    pool = make(2)
    handles = [send(pool, give) for _ in range(10)]
    await_mark("w")
    suicide()
""",
        pool,
        code=-9,
        quiet=False,
    )


@variants("work", ["busy", "idle", "results"], ALL)
def test_the_program_ends_without_close(work: str, pool: str) -> None:
    check(
        f"""
PROGRAM = '''
def task(): mark("b"); time.sleep(0.3); return BLOB
if __name__ == "__main__":
    pool = make(2)
    team(pool)
    # An executor waits for its tasks at the end, as documented; those of a Pool are ended.
    if "{work}" == "busy": handles = [send(pool, stuck, "sleeps") if POOL == "Pool" else send(pool, task)]
    if "{work}" == "results": handles = [send(pool, task) for _ in range(4)]; await_mark("b")
    print("done")
'''
def main():
    program = Program(PROGRAM)
    assert program.ended() == 0 and program.out == "done\\n" and not program.err, program.err
""",
        pool,
    )


@every
def test_dropped_without_close(pool: str) -> None:
    check(
        """
def main():
    pool = make(2)
    pids = team(pool)
    del pool
    gc.collect()
    for pid in pids: until(lambda: gone(pid), "the end of a worker that nobody can reach")
""",
        pool,
    )


@every
def test_an_exception_where_the_pool_is_used(pool: str) -> None:
    check(
        """
def main():
    with raises(LookupError, "the user's own"):
        with make(2) as pool:
            pids = team(pool)
            # An executor waits for its tasks, as documented; those of a Pool are ended.
            if POOL == "Pool": one = send(pool, stuck, "sleeps"); await_mark("s")
            else: one = send(pool, time.sleep, 0.2)
            queued = [send(pool, square, n) for n in range(100)]
            raise LookupError("the user's own")
    for pid in pids: until(lambda: gone(pid), "the end of a worker", ON_TIME)
    if POOL == "Pool":
        with fails(Exception): got(one)
    else: assert got(one) is None and [got(other) for other in queued] == squares(100)
    for one in queued: until(lambda: ready(one), "an answer for who was queued")
    with make(2) as pool: usable(pool)
""",
        pool,
    )


@every
def test_made_and_closed_ten_times(pool: str) -> None:
    check(
        """
def main():
    for turn in range(10):
        pool = make(2)
        assert each(pool, square, range(10)) == squares(10)
        close(pool) if turn % 2 else stop(pool)
        del pool
        if turn == 1: before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    def after():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    # A thread that was joined may still be on its way out.
    until(lambda: all(now <= then for now, then in zip(after(), before)), f"{before} again, as after two turns")
""",
        pool,
        deadline=30,
    )


@every
def test_made_and_closed_without_a_task(pool: str) -> None:
    check(
        """
def main():
    for _ in range(3): close(make(2))
    for _ in range(3):
        with make(2): pass
    make(2)
    gc.collect()
""",
        pool,
    )


# ---- programs that nobody expected


@pytest.mark.parametrize("pool", ["Pool-spawn", "Pool-forkserver", "Executor-spawn"])
@pytest.mark.parametrize("how", ["file", "-c", "stdin"])
def test_a_program_without_a_main_guard(how: str, pool: str) -> None:
    check(
        f"""
PROGRAM = '''
def double(n): return 2 * n
with make(2) as pool:
    print(each(pool, double, range(5)))
'''
def main():
    program = Program(PROGRAM, how="{how}")
    if program.ended() == 0:
        assert program.out == "[0, 2, 4, 6, 8]\\n" and not program.err, (program.out, program.err)
    else:
        # A file that is imported again cannot work: one error, which says what to do.
        assert "{how}" == "file" and '__name__ == "__main__"' in program.err, program.err
        assert program.err.count("Traceback") <= 2 and not program.out, program.err
""",
        pool,
    )


@pytest.mark.parametrize("pool", ALL)
def test_a_flood_on_stdout(pool: str) -> None:
    check(
        """
PROGRAM = '''
def shout(n):
    for line in range(1000): print(f"{n:03}" * 300); mark("l", line + 1)
    sys.stdout.flush()
    return n
if __name__ == "__main__":
    with make(2) as pool:
        assert each(pool, shout, range(8)) == list(range(8))
        close(pool)
'''
def main():
    program = Program(PROGRAM, pipe=True)
    # Nobody reads for a while: the workers wait for the reader.
    await_mark("l")
    settled(lambda: count("l"))
    text = program.process.stdout.read(); program.process.stdout.close()
    assert program.ended() == 0 and not program.err, program.err
    assert len(text) == 8 * 1000 * 901 and text.count(b"\\n") == 8000
""",
        pool,
    )
