"""Shared memory: nothing stays behind in the system, nobody's exit takes it from others, and a queue has a ceiling."""

from __future__ import annotations

import pytest
from tests.faults.harness import check

METHODS = ("fork", "spawn", "forkserver")


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
    until(lambda: not os.path.exists("/dev/shm/" + name), "nothing in the system", SOON)
"""
    check(scenario, method=method, quiet=False)


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
        code=-9,
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
    check(scenario, method=method)


def test_the_end_of_a_stranger_that_attached_takes_nothing_away() -> None:
    check("""
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
""")


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
