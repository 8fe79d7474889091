"""Managers: the server dies, the holder of one of its locks dies, its parent dies, a stranger calls."""

from __future__ import annotations

import pytest
from tests.faults.harness import check

METHODS = ("fork", "spawn", "forkserver")

TOOLS = """
def server(manager): return manager._process
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_call_when_the_server_was_killed(method: str) -> None:
    scenario = f"""{TOOLS}
def main():
    manager = ctx.Manager()
    table, items, box = manager.dict(a=1), manager.list([1]), manager.Queue()
    box.put(1); assert box.get() == 1 == table["a"]
    kill(server(manager))
    for call in (lambda: table["a"], lambda: items.append(2), lambda: box.get(), lambda: manager.dict()):
        with raises((OSError, EOFError, PhalanxError), "manager", "killed by SIGKILL"): call()
    manager.shutdown()
"""
    check(scenario, method=method)


def test_a_call_that_waits_when_the_server_is_killed() -> None:
    check(f"""{TOOLS}
def wait(box):
    mark("a")
    try: box.get()
    except (OSError, EOFError, PhalanxError) as error: Path("told").write_text(str(error)); mark("a", 2)

def main():
    manager = ctx.Manager()
    box = manager.Queue()
    child = start(wait, box); await_mark("a"); asleep(child.pid)
    kill(server(manager))
    until(lambda: count("a") == 2, "the caller is told", SOON)
    assert "manager" in Path("told").read_text()
    end(child)
    manager.shutdown()
""")


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
@pytest.mark.parametrize("waits", ["before", "during"])
def test_the_holder_of_a_managers_lock_is_killed(kind: str, waits: str) -> None:
    check(f"""{TOOLS}
def hold(lock): lock.acquire(); mark("h"); forever()

def take(lock):
    mark("t")
    try: lock.acquire()
    except OwnerDied as error: Path("told").write_text(str(error)); mark("t", 2)

def main():
    with ctx.Manager() as manager:
        lock = manager.{kind}()
        holder = start(hold, lock); await_mark("h"); pid = holder.pid
        if "{waits}" == "before": kill(holder)
        child = start(take, lock); await_mark("t")
        if "{waits}" == "during": asleep(child.pid); kill(holder)
        until(lambda: count("t") == 2, "the next is told", SOON)
        told = Path("told").read_text()
        assert str(pid) in told and "killed by SIGKILL" in told, told
        end(holder, code=-9); end(child)
""")


@pytest.mark.parametrize("method", METHODS)
def test_a_manager_ends_with_its_parent(method: str) -> None:
    scenario = """
def main():
    manager = ctx.Manager()
    table = manager.dict(a=1)
    suicide()
"""
    check(scenario, method=method, code=-9)


def test_a_client_of_a_manager_is_killed_in_the_middle() -> None:
    check("""
def client(table):
    while True:
        table.update(a=bytes(100_000)); bump("a")

def main():
    with ctx.Manager() as manager:
        table = manager.dict()
        for turn in range(5):
            child = start(client, table); await_mark("a", count("a") + 3)
            bury(child)
            assert len(table["a"]) == 100_000
            table["b"] = turn; assert table["b"] == turn
""")


def test_a_stranger_with_the_wrong_key() -> None:
    check("""
def main():
    with ctx.Manager() as manager:
        table = manager.dict(a=1)
        with raises(mp.AuthenticationError): connection.Client(manager.address, authkey=b"wrong")
        with raises((mp.AuthenticationError, EOFError, OSError)):
            end = connection.Client(manager.address)  # no key at all
            end.send(Bomb())
            while True: end.recv_bytes()
        assert not count("!") and table["a"] == 1
""")


def test_an_argument_that_raises_while_it_is_loaded() -> None:
    # A value of a dict is loaded by who reads it, an argument of a call by the server.
    check("""
def main():
    with ctx.Manager() as manager:
        table, waiting = manager.dict(a=1), manager.Queue()
        table.update(b=Bomb())
        for _ in range(2):
            with raises(BaseException, "the bomb was loaded"): table["b"]
        with raises(BaseException, "the bomb was loaded"): waiting.put(Bomb())
        with raises(ZeroDivisionError, "will not be pickled"): table.update(b=Stubborn())
        assert table["a"] == 1
""")
