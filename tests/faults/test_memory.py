"""Shared memory: nothing stays behind in the system, nobody's exit takes it from others, and a queue has a ceiling."""

from __future__ import annotations

import pytest
from tests.faults.harness import check

METHODS = ("fork", "spawn", "forkserver")
# The tracker that clears away named segments is there before anything is counted.
TRACKER = {"PHALANX_FAULTS_TRACKER": "1"}


@pytest.mark.parametrize("method", METHODS)
def test_the_owner_of_shared_memory_is_killed(method: str) -> None:
    scenario = """
def owner():
    block = shared_memory.SharedMemory(create=True, size=100_000)
    block.buf[0] = 7
    Path("name").write_text(block.name); mark("a"); forever()

def main():
    child = start(owner); await_mark("a")
    name = Path("name").read_text()
    guest = shared_memory.SharedMemory(name)
    assert guest.buf[0] == 7
    bury(child)
    assert guest.buf[0] == 7
    guest.close()
"""
    check(scenario, method=method, environment=TRACKER, quiet=False)


def test_everybody_who_knew_of_shared_memory_is_killed_at_once() -> None:
    check(
        """
def main():
    block = shared_memory.SharedMemory(create=True, size=100_000)
    block.buf[0] = 7
    value, array, q = ctx.Value("i"), ctx.Array("d", 1000), ctx.Queue()
    q.put(bytes(1_000_000))
    os.killpg(0, signal.SIGKILL)
    forever()
""",
        environment=TRACKER,
        code=-9,
        quiet=False,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["block.close()", "os._exit(0)", "suicide()", "pass"])
def test_the_end_of_a_process_that_attached_takes_nothing_away(how: str, method: str) -> None:
    scenario = f"""
def guest(name):
    block = shared_memory.SharedMemory(name)
    assert block.buf[0] == 7
    block.buf[1] = 8
    {how}

def main():
    block = shared_memory.SharedMemory(create=True, size=1000)
    block.buf[0] = 7
    end(start(guest, block.name), code=None)
    again = shared_memory.SharedMemory(block.name)
    assert again.buf[0] == 7 and again.buf[1] == 8
    again.close(); block.close(); block.unlink()
    with raises(FileNotFoundError): shared_memory.SharedMemory(block.name)
"""
    check(scenario, method=method, environment=TRACKER)


def test_the_end_of_a_stranger_that_attached_takes_nothing_away() -> None:
    check(
        """
GUEST = '''
from tests.faults.stage import *
import sys
block = shared_memory.SharedMemory(sys.argv[1])
assert block.buf[0] == 7
block.close()
'''

def main():
    block = shared_memory.SharedMemory(create=True, size=1000)
    block.buf[0] = 7
    subprocess.run([sys.executable, "-c", GUEST, block.name], check=True)
    again = shared_memory.SharedMemory(block.name)
    assert again.buf[0] == 7
    again.close(); block.close(); block.unlink()
""",
        environment=TRACKER,
    )


def test_what_dead_processes_had_shared_is_used_again() -> None:
    # 60 times 20 MB that nobody gives back: without burial they would fill the machine.
    check(
        """
def child(q):
    q.put(bytes(10_000_000))
    value = ctx.Array("b", 10_000_000)
    suicide()

def main():
    q = ctx.Queue()
    levels = []
    for turn in range(60):
        end(start(child, q), code=-9)
        assert len(q.get()) == 10_000_000
        levels.append(sum(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("Shmem:")))
    assert levels[-1] - levels[5] < 300_000, levels  # kB
""",
        deadline=40,
    )


# ---- the ceiling of a queue

CEILING = {"PHALANX_QUEUE_MEMORY": "30000000"}


def test_a_put_beyond_the_ceiling_waits_and_its_time_limit_holds() -> None:
    check(
        """
BLOB = bytes(10_000_000)

def putter(q): mark("a"); q.put(BLOB); mark("a", 2)

def main():
    q = ctx.Queue()
    n = 0
    with raises(Full):
        for n in range(10): q.put(BLOB, timeout=0.2)
    assert n in (2, 3), n
    with raises(Full): q.put(BLOB, block=False)
    q.put("small")  # has room of its own
    child = start(putter, q); await_mark("a"); asleep(child.pid)
    assert count("a") == 1
    assert q.get() == BLOB
    await_mark("a", 2)
    end(child)
    sizes = [len(q.get()) for _ in range(n + 1)]
    assert sizes == [10_000_000] * (n - 1) + [5, 10_000_000] and q.empty(), sizes
""",
        environment=CEILING,
    )


def test_one_object_larger_than_the_ceiling() -> None:
    check(
        """
def main():
    q = ctx.Queue()
    for _ in range(3):
        q.put(bytes(50_000_000), timeout=5)
        with raises(Full): q.put(bytes(50_000_000), timeout=0.1)
        assert len(q.get()) == 50_000_000
    one, other = ctx.Pipe()
    one.send_bytes(bytes(50_000_000)); assert len(other.recv_bytes()) == 50_000_000
""",
        environment=CEILING,
    )


def test_beyond_the_ceiling_with_nobody_left_to_get() -> None:
    check(
        """
BLOB = bytes(20_000_000)

def main():
    q = ctx.Queue()
    q.put(BLOB)
    with raises(DeadlockError, "Queue.put"): q.put(BLOB)
    one, other = ctx.Pipe()
    one.send_bytes(BLOB)
    with raises((DeadlockError, BrokenPipeError)): one.send_bytes(BLOB)
    assert other.recv_bytes() == BLOB == q.get()
""",
        environment=CEILING,
    )


def test_a_getter_killed_at_the_ceiling() -> None:
    check(
        """
BLOB = bytes(10_000_000)

def getter(q):
    q.get(); mark("g"); forever()

def putter(q):
    for n in range(6): q.put((n, BLOB)); bump("p")

def main():
    q = ctx.Queue()
    source = start(putter, q)
    until(lambda: count("p") >= 2); asleep(source.pid)
    dead = start(getter, q); await_mark("g")
    kill(dead)
    for n in range(1, 6): assert q.get() == (n, BLOB)
    end(source); end(dead, code=-9)
""",
        environment=CEILING,
    )


def test_a_million_small_objects_wait_for_a_get() -> None:
    # Small objects have 256 MiB of their own.
    check(
        """
def main():
    q = ctx.Queue()
    n = 0
    with raises(Full):
        while True: q.put(bytes(8000), timeout=0.2); n += 1
    assert n * 8000 < 400 << 20, n
    for _ in range(n): assert len(q.get()) == 8000
    assert q.empty()
    q.put(1); assert q.get() == 1
""",
        environment=CEILING,
        deadline=40,
    )
