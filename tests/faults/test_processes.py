"""What becomes of processes when their parent dies, the words of a death, Ctrl-C, and a shortage of descriptors."""

from __future__ import annotations

import pytest
from tests.faults.harness import GRACE, check

METHODS = ("fork", "spawn", "forkserver")


# ---- the parent is killed

BUSY = {
    "sleeps": "time.sleep(600)",
    "computes": "while True: pass",
    "waits for an item": "things[0].get()",
    "waits for a lock": "things[1].acquire()",
    "waits for a child": "start(time.sleep, 600).join()",
    "ignores signals": "for n in (2, 15): signal.signal(n, signal.SIG_IGN)\n    time.sleep(600)",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("busy", BUSY)
def test_children_end_with_their_parent(busy: str, method: str) -> None:
    scenario = f"""
def child(letter, *things):
    mark(letter)
    {BUSY[busy]}

def main():
    q, lock = ctx.Queue(), ctx.Lock()
    lock.acquire()
    children = [start(child, "a", q, lock), start(child, "b", q, lock, daemon={busy != "waits for a child"})]
    for letter in "ab": await_mark(letter)
    if sys.argv[1] == "waits for a child": asleep(*(one.pid for one in children))
    suicide()
"""
    # They may say what their wait came to, and each generation has its own two seconds.
    grace = 2 * GRACE if busy == "waits for a child" else GRACE
    check(scenario, busy, method=method, code=-9, quiet=False, grace=grace)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGSEGV", "SIGHUP"])
def test_children_end_with_a_parent_that_dies_of_something_else(number: str) -> None:
    check(
        f"""
def child(letter): mark(letter); forever()

def main():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for letter in "ab": start(child, letter, daemon=letter == "a")
    for letter in "ab": await_mark(letter)
    os.kill(os.getpid(), signal.{number})
    forever()
""",
        code=-int(__import__("signal").Signals[number]),
    )


@pytest.mark.parametrize("method", METHODS)
def test_grandchildren_end_when_the_child_between_is_killed(method: str) -> None:
    scenario = """
def grandchild(): mark("g", os.getpid()); forever()

def child(): start(grandchild); forever()

def main():
    between = start(child); await_mark("g")
    kill(between)
    until(lambda: gone(count("g")), "the end of the grandchild", ORPHANED)
    end(between, code=-9)
"""
    check(scenario, method=method)


# ---- words


@pytest.mark.parametrize("method", METHODS)
def test_a_death_has_words(method: str) -> None:
    scenario = """
def die(number):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), number); forever()

def main():
    for name in ("SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGUSR1"):
        number = getattr(signal, name)
        signal.signal(number, signal.SIG_DFL) if name != "SIGKILL" else None
        child = start(die, number); child.join(PATIENCE)
        assert child.exitcode == -number
        assert name in child.exit_reason, child.exit_reason
        child.close()
"""
    check(scenario, method=method)


def test_an_ordinary_end_has_words_too() -> None:
    check(
        """
def leave(code): sys.exit(code)
def fail(): raise ValueError("what went wrong")
def pause(): await_mark("a")

def main():
    child = start(pause)
    assert child.exit_reason is None, child.exit_reason
    mark("a"); child.join(PATIENCE)
    assert child.exit_reason, child.exit_reason
    child.close()
    for target, args, code in ((leave, (3,), 3), (fail, (), 1)):
        child = start(target, *args); child.join(PATIENCE)
        assert child.exitcode == code and str(code) in child.exit_reason, child.exit_reason
        child.close()
""",
        quiet=False,
    )


# ---- Ctrl-C

WAITS = {
    "Queue.get": ("thing = ctx.Queue()", "thing.get()", "thing.put(1); assert thing.get() == 1"),
    "Queue.get with a limit": ("thing = ctx.Queue()", "thing.get(timeout=60)", "thing.put(1); assert thing.get() == 1"),
    "SimpleQueue.get": ("thing = ctx.SimpleQueue()", "thing.get()", "thing.put(1); assert thing.get() == 1"),
    "Queue.put": (
        "thing = ctx.Queue(1); thing.put(0)",
        "thing.put(1)",
        "assert thing.get() == 0; thing.put(2); assert thing.get() == 2",
    ),
    "JoinableQueue.join": (
        "thing = ctx.JoinableQueue(); thing.put(0)",
        "thing.join()",
        "thing.get(); thing.task_done(); thing.join()",
    ),
    "Connection.recv": (
        "thing, other = ctx.Pipe()",
        "thing.recv()",
        "other.send(1); assert thing.recv() == 1",
    ),
    "Connection.poll": (
        "thing, other = ctx.Pipe()",
        "thing.poll(None)",
        "other.send(1); assert thing.poll(None) and thing.recv() == 1",
    ),
    "wait": (
        "thing, other = ctx.Pipe()",
        "connection.wait([thing])",
        "other.send(1); assert connection.wait([thing]) == [thing]",
    ),
    "Lock.acquire": (
        "thing = ctx.Lock(); away = start(hold, thing); await_mark('h')",
        "thing.acquire()",
        "mark('r'); end(away); assert thing.acquire(); thing.release()",
    ),
    "RLock.acquire": (
        "thing = ctx.RLock(); away = start(hold, thing); await_mark('h')",
        "thing.acquire()",
        "mark('r'); end(away); assert thing.acquire(); thing.release()",
    ),
    "Semaphore.acquire": (
        "thing = ctx.Semaphore(0)",
        "thing.acquire()",
        "thing.release(); assert thing.acquire() and not thing.acquire(False)",
    ),
    "Event.wait": ("thing = ctx.Event()", "thing.wait()", "thing.set(); assert thing.wait()"),
    "Condition.wait": (
        "thing = ctx.Condition(); thing.acquire()",
        "thing.wait()",
        "thing.notify(); thing.release(); end(start(notice, thing))",
    ),
    "Barrier.wait": (
        "thing = ctx.Barrier(2)",
        "thing.reset(); thing.wait()",
        "thing.reset(); one = start(thing.wait); thing.wait(); end(one)",
    ),
    "Process.join": (
        "thing = ctx.Lock(); away = start(hold, thing); await_mark('h')",
        "away.join()",
        "mark('r'); end(away)",
    ),
}


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_in_the_middle_of_a_wait(name: str) -> None:
    made, wait, afterwards = WAITS[name]
    check(f"""
def hold(lock):
    with lock: mark("h"); await_mark("r")

def notice(condition):
    with condition: condition.notify_all()

def interrupt(pid, thing): asleep(pid); os.kill(pid, signal.SIGINT)

def main():
    {made}
    for _ in range(2):
        sender = start(interrupt, os.getpid(), thing)
        with raises(KeyboardInterrupt): {wait}
        end(sender)
    {afterwards}
""")


def test_ctrl_c_reaches_children_that_wait() -> None:
    check("""
def wait(q, letter):
    mark(letter)
    try: q.get()
    except KeyboardInterrupt: mark(letter, 2)

def main():
    q = ctx.Queue()
    children = [start(wait, q, letter) for letter in "ab"]
    for letter, child in zip("ab", children): await_mark(letter); asleep(child.pid)
    for child in children: os.kill(child.pid, signal.SIGINT)
    end(*children)
    assert count("a") == count("b") == 2
    q.put(1); assert q.get() == 1
""")


# ---- no descriptors left


@pytest.mark.parametrize(
    "what", ["Pipe()", "Pipe(False)", "Queue()", "SimpleQueue()", "JoinableQueue()", "Lock()", "Event()", "Value('i')"]
)
def test_the_limit_of_descriptors(what: str) -> None:
    check(f"""
def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, hard))
    made, told = [], 0
    try:
        for _ in range(200): made.append(ctx.{what})
    except OSError as error: told = error.errno
    assert told in (0, errno.EMFILE), told
    if "Queue" in "{what}":
        for q in made: q.put(1); assert q.get() == 1
    if "Pipe" in "{what}":
        for one, other in made: other.send(1); assert one.recv() == 1
    del made[:]; q = one = other = None
    gc.collect()
    ctx.{what}
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
""")


@pytest.mark.parametrize("method", METHODS)
def test_no_descriptor_left_for_a_process(method: str) -> None:
    scenario = """
def nothing(q): q.put(1)

def main():
    q = ctx.Queue()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, hard))
    with raises(OSError):
        while True: files.append(open("board"))
    with raises(OSError) as caught: start(nothing, q)
    assert caught.error.errno == errno.EMFILE, caught.error
    for file in files: file.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    end(start(nothing, q))
    assert q.get() == 1
"""
    check(scenario, method=method)
