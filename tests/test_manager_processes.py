"""Managers and processes: all see the same, nothing is lost or torn, and whoever dies is named."""

from __future__ import annotations

from typing import Any

import pytest
from tests.test_processes import HEADS, METHODS, run, script

from phalanx import _core

__all__ = ["script"]

core: Any = _core

TOOLS = """
import pickle, random
from phalanx.errors import OwnerDied, PhalanxError
from phalanx.multiprocessing.managers import ManagerDied, SyncManager
from phalanx import _core

def until(done, what="it"):
    end = time.monotonic() + 15
    while not done():
        assert time.monotonic() < end, "waited in vain: " + what
        time.sleep(0.002)

def state(pid):
    try: return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except OSError: return "X"  # also ended between open and read

def ended(*processes, code=0):
    for process in processes:
        process.join(20)
        assert process.exitcode == code, (process, process.exitcode)

def raises(kind, call, *words):
    try:
        call()
    except kind as error:
        assert all(word in str(error) for word in words), error
        return error
    raise AssertionError(f"no {kind}")

def forever():
    while True: time.sleep(60)
"""
END = """
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    main()
    print("done")
"""


def play(path: Any, program: str, method: str = "fork", head: str = "ours") -> None:
    result = run(path, TOOLS + program + END, method, head=head)
    assert (result.code, result.out, result.err) == (0, "done\n", ""), f"{result.out}\n{result.err}"


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", METHODS)
def test_children_see_the_same(script: Any, method: str, head: str) -> None:
    program = """
def child(table, items, space, value, things, lock):
    for number in range(200):
        with lock: table["count"] += 1
    with lock:
        value.value += 1
        space.x += 1
    items.append(table["name"])
    things.add(os.getpid())
    table["nested"]["seen"] = True

def main():
    with context.Manager() as manager:
        table, items, space = manager.dict(count=0, name="n"), manager.list(), manager.Namespace(x=0)
        value, things, lock = manager.Value("i", 0), manager.set(), manager.Lock()
        table["nested"] = manager.dict()
        arguments = table, items, space, value, things, lock
        children = [context.Process(target=child, args=arguments) for _ in range(3)]
        for process in children: process.start()
        pids = {process.pid for process in children}
        ended(*children)
        assert table["count"] == 600 and items[:] == ["n"] * 3 and things.copy() == pids
        assert (space.x, value.value, table["nested"]["seen"]) == (3, 3, True)
        shared = (table, items, space, value, things)
        assert not any(proxy._table.moved for proxy in shared)
"""
    play(script, program, method, head)


def test_no_change_is_lost_and_none_is_torn(script: Any) -> None:
    play(
        script,
        """
ROUNDS = 1500
def writer(number, table, items, things):
    for n in range(ROUNDS):
        table[number, n % 50] = n
        table["long"] = bytes([number]) * (20_000 + number)
        items.append((number, n))
        things.add((number, n % 20))
        if n % 3 == 0: table.update(dict.fromkeys(("a", "b", "c"), (number, n)))
        if n % 7 == 0: del table[number, n % 50]

def reader(table, items, stop):
    while not stop.is_set():
        long = table.get("long", b"")
        assert len(set(long)) <= 1, "a torn value"
        content = table.copy()
        assert content.get("a") == content.get("b") == content.get("c"), "half an update"
        assert len(set(content.get("long", b"1"))) == 1
        first = items[:10]
        assert len(items) >= len(first)

def main():
    with context.Manager() as manager:
        table, items, things, stop = manager.dict(), manager.list(), manager.set(), multiprocessing.Event()
        readers = [context.Process(target=reader, args=(table, items, stop)) for _ in range(2)]
        writers = [context.Process(target=writer, args=(n, table, items, things)) for n in (1, 2, 3)]
        for process in (*readers, *writers): process.start()
        ended(*writers)
        stop.set()
        ended(*readers)
        assert len(items) == 3 * ROUNDS and len(things) == 60
        for number in (1, 2, 3):
            assert [n for who, n in items[:] if who == number] == list(range(ROUNDS))
            for slot in range(50):
                last = max(n for n in range(ROUNDS) if n % 50 == slot)
                assert table.get((number, slot)) == (None if last % 7 == 0 else last)
""",
    )


def test_another_tree_sees_the_same(script: Any) -> None:
    play(
        script,
        """
FAR = '''
import sys
from phalanx.multiprocessing.managers import DictProxy, ListProxy, NamespaceProxy, SyncManager
class Far(SyncManager): pass
Far.register("get_table", proxytype=DictProxy)
Far.register("get_items", proxytype=ListProxy)
Far.register("get_space", proxytype=NamespaceProxy)
far = Far(sys.argv[1], authkey=b"key"); far.connect()
table, items, space = far.get_table(), far.get_items(), far.get_space()
print(table.copy(), items[:], table.get("n"), str(space))
table.update(n=2, far=[1]); items.append("far"); space.x += 1
table.setdefault("s", 5); assert "s" in table and table.pop("s") == 5
'''
SHARED = []
def get(n):
    from phalanx.multiprocessing._served_tables import Dict, List, Namespace
    if not SHARED: SHARED.extend([Dict(), List(), Namespace(x=1)])
    return SHARED[n]
def get_table(): return get(0)
def get_items(): return get(1)
def get_space(): return get(2)

def main():
    import subprocess
    from phalanx.multiprocessing.managers import DictProxy, ListProxy, NamespaceProxy
    class Near(SyncManager): pass
    Near.register("get_table", get_table, DictProxy)
    Near.register("get_items", get_items, ListProxy)
    Near.register("get_space", get_space, NamespaceProxy)
    with Near(authkey=b"key", ctx=context) as manager:
        near = manager.get_table()
        near["n"] = 1
        manager.get_items().append("near")
        command = [sys.executable, "-c", FAR, manager.address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "{'n': 1} ['near'] 1 Namespace(x=1)\\n", done.stdout
        assert near.copy() == {"n": 2, "far": [1]} and manager.get_items()[:] == ["near", "far"]
        assert manager.get_space().x == 2 and not near._table.moved
""",
    )


def test_a_standard_client_sees_the_same(script: Any) -> None:
    play(
        script,
        """
FAR = '''
import sys
from multiprocessing.managers import SyncManager
assert "phalanx" not in sys.modules
far = SyncManager(sys.argv[1], authkey=b"key"); far.connect()
table, items = far.dict(a=1), far.list([1])
table["b"] = 2; items.append(5); items *= 2
print(table.copy(), table, len(table), list(table.keys()), sorted(table), items[:], items, table._getvalue())
'''
def main():
    import subprocess
    with SyncManager(authkey=b"key", ctx=context) as manager:
        command = [sys.executable, "-c", FAR, manager.address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        plain = "{'a': 1, 'b': 2}"
        assert done.stdout == f"{plain} {plain} 2 ['a', 'b'] ['a', 'b'] [1, 5, 1, 5] [1, 5, 1, 5] {plain}\\n"
""",
    )


@pytest.mark.parametrize("point", [name for name in core._kill_points() if name.startswith("table.")])
def test_a_process_is_killed_in_the_middle(script: Any, point: str) -> None:
    program = """
LONG = bytes(20_000)
def on_dict(table, done, nth):
    _core._kill_at(POINT, nth)
    for n in range(3000):
        table["same"] = str(n)
        table[n] = LONG if n % 5 == 0 else "short"
        if n % 3 == 0: del table[n]
        if n % 50 == 0: table.update({"a": n, "b": n})
        done.value = n + 1

def on_list(items, done, nth):
    _core._kill_at(POINT, nth)
    for n in range(3000):
        items.append(n); items.append(LONG if n % 5 == 0 else "short")
        if n % 3 == 0: items.pop(0); items.pop()
        if n % 4 == 0: items[len(items) // 2 :] = [LONG, "new"]; items.insert(0, "front")
        if n % 50 == 0: items.reverse(); items.sort(key=str)
        done.value = n + 1

def check_dict(table, begun):
    content = table.copy()
    assert len(table) == len(content) and content.get("a", 0) % 50 == 0
    assert int(content.get("same", "0")) in (begun - 1, begun, 0)
    for n in range(begun - 1):
        assert (n in content) == (n % 3 != 0), n
        assert n % 3 == 0 or content[n] == (LONG if n % 5 == 0 else "short")
    table["after"] = 1; assert table.pop("after") == 1 and "after" not in table

def check_list(items, begun):
    content = items[:]
    assert len(items) == len(content)
    assert all(item in (LONG, "short", "new", "front") or type(item) is int for item in content)
    items.append("after"); assert items.pop() == "after" and items[:] == content

def main():
    with context.Manager() as manager:
        done = multiprocessing.RawValue("i", 0)
        for make, deed, check in ((manager.dict, on_dict, check_dict), (manager.list, on_list, check_list)):
            deaths = 0
            for nth in (1, 2, 7, 40):
                shared = make(); done.value = 0
                victim = context.Process(target=deed, args=(shared, done, nth)); victim.start(); victim.join(20)
                assert victim.exitcode in (0, -9), victim.exitcode
                deaths += victim.exitcode == -9
                check(shared, done.value)
                other = context.Process(target=check, args=(shared, done.value)); other.start(); ended(other)
            assert deaths >= 2, deaths
"""
    play(script, program.replace("POINT", repr(point)))


def test_writers_killed_at_any_moment(script: Any) -> None:
    play(
        script,
        """
def writer(table, items, seed):
    dice = random.Random(seed)
    while True:
        n = dice.randrange(40)
        table[n] = (n, bytes(dice.randrange(15_000)))
        table.pop(dice.randrange(40), None)
        items.append((n, bytes(dice.randrange(15_000))))
        items.insert(dice.randrange(5), (n, b""))
        if len(items) > 30: del items[dice.randrange(20)::2]

def main():
    with context.Manager() as manager:
        table, items = manager.dict(), manager.list()
        dice = random.Random(7)
        for turn in range(25):
            writers = [context.Process(target=writer, args=(table, items, turn * 2 + k)) for k in range(2)]
            for process in writers: process.start()
            time.sleep(dice.random() * 0.03)  # any moment will do
            for process in writers: process.kill()
            ended(*writers, code=-9)
            assert all(key == number for key, (number, _) in table.items())
            assert all(type(number) is int for number, _ in items[:])
            table["mine"] = ("mine", turn); assert table.pop("mine") == ("mine", turn)
        table.clear(); items.clear()
""",
    )


# ---------------------------------------------------------------- the manager dies

CALLS = """
def calls(manager, table, items, space, value, things, queue, lock):
    return (
        lambda: table["a"], lambda: table.__setitem__("a", 2), lambda: len(table), lambda: table.copy(),
        lambda: list(table), lambda: items.append(1), lambda: items[0], lambda: items.sort(), lambda: space.x,
        lambda: setattr(space, "x", 2), lambda: value.value, lambda: things.add(1), lambda: 1 in things,
        lambda: things | {2}, lambda: queue.get(),
        lambda: lock.acquire(), lambda: table.__setitem__(frozenset(), 1), lambda: table["nested"],
        *((lambda: manager.dict(), lambda: manager._number_of_objects()) if manager else ()),
    )
def objects(manager):
    return (manager.dict(a=1), manager.list([1]), manager.Namespace(x=1), manager.Value("i", 1), manager.set(),
            manager.Queue(), manager.Lock())
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_manager_is_told_at_once(script: Any, method: str) -> None:
    program = """
def child(shared, ready, go):
    shared[0]["a"]
    ready.set(); go.wait()
    for call in calls(None, *shared): raises(ManagerDied, call, "the manager", "is gone")

def main():
    manager = context.Manager()
    shared = objects(manager)
    ready, go = context.Event(), context.Event()
    process = context.Process(target=child, args=(shared, ready, go)); process.start(); ready.wait(15)
    pid = manager._process.pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: state(pid) in "ZX")
    for call in calls(manager, *shared):
        error = raises(ManagerDied, call, f"pid {pid}", "SyncManager", "killed by SIGKILL", "hint: ")
        assert isinstance(error, OSError) and isinstance(error, EOFError) and isinstance(error, PhalanxError)
        assert error.pid == pid and pickle.loads(pickle.dumps(error)).reason == error.reason
    go.set()
    ended(process)
    assert "failed" in str(shared[0])
    manager.shutdown()
"""
    play(script, CALLS + program, method)


def test_a_manager_that_was_shut_down(script: Any) -> None:
    program = """
def child(shared, ready, go):
    ready.set(); go.wait()
    for call in calls(None, *shared): raises(ManagerDied, call, "is gone: ended normally")

def main():
    with context.Manager() as manager:
        shared = objects(manager)
        ready, go = multiprocessing.Event(), multiprocessing.Event()
        process = context.Process(target=child, args=(shared, ready, go)); process.start(); ready.wait(15)
    for call in calls(None, *shared): raises(ManagerDied, call, "is gone: ended normally", "hint: a manager ends with")
    go.set()
    ended(process)
"""
    play(script, CALLS + program)


def test_those_who_wait_for_a_manager_that_dies(script: Any) -> None:
    play(
        script,
        """
def wait(call, told):
    try: call()
    except ManagerDied as error: told.put(str(error))

def main():
    manager = context.Manager()
    queue, event, lock = manager.Queue(), manager.Event(), manager.Lock()
    lock.acquire()
    told = multiprocessing.Queue()
    waiting = [context.Process(target=wait, args=(call, told)) for call in (queue.get, event.wait, lock.acquire)]
    for process in waiting: process.start()
    time.sleep(0.3)  # they wait for an answer by now; it is the same if not
    manager._process.kill()
    ended(*waiting)
    for _ in waiting: assert "is gone: killed by" in told.get(timeout=15)
    manager.shutdown()
""",
    )


def test_a_manager_ends_with_its_parent(script: Any) -> None:
    play(
        script,
        """
def parent(pids):
    manager = context.Manager()
    table = manager.dict(a=1)
    pids.put(manager._process.pid)
    os.kill(os.getpid(), signal.SIGKILL)

def main():
    pids = multiprocessing.Queue()
    process = context.Process(target=parent, args=(pids,)); process.start()
    ended(process, code=-9)
    pid = pids.get(timeout=15)
    until(lambda: state(pid) in "ZX")
""",
    )


# ---------------------------------------------------------------- locks whose owners die


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
@pytest.mark.parametrize("waits", ["before", "during", "never"])
def test_the_owner_of_a_lock_is_killed(script: Any, kind: str, waits: str) -> None:
    program = """
def hold(lock, ready): lock.acquire(); ready.set(); forever()

def take(lock, told, *arguments):
    try: told.put(lock.acquire(*arguments))
    except OwnerDied as error: told.put((error.pid, error.kind, str(error)))

def main():
    with context.Manager() as manager:
        lock, ready, told = getattr(manager, KIND)(), multiprocessing.Event(), multiprocessing.Queue()
        holder = context.Process(target=hold, args=(lock, ready)); holder.start(); assert ready.wait(15)
        arguments = (False,) if WAITS == "never" else ()
        if WAITS != "during": holder.kill(); ended(holder, code=-9)
        other = context.Process(target=take, args=(lock, told, *arguments)); other.start()
        if WAITS == "during":
            time.sleep(0.2)  # it waits by now, or comes later: both end in the same way
            holder.kill()
            ended(holder, code=-9)
        pid, kind, text = told.get(timeout=15)
        ended(other)
        assert pid == holder.pid and kind == ("RLock" if KIND == "Condition" else KIND.removeprefix("Bounded")), kind
        assert "killed by" in text and "SIGKILL" in text and "recover()" in text
        raises(OwnerDied, lock.acquire)
        assert lock.recover() == 1 and lock.recover() == 0
        assert lock.acquire(True, 5)
        lock.release()
"""
    play(script, program.replace("KIND", repr(kind)).replace("WAITS", repr(waits)))


@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_ends_well_may_leave_a_lock_to_others(script: Any, method: str) -> None:
    play(
        script,
        """
def take(lock, permits): lock.acquire(); permits.acquire()

def main():
    with context.Manager() as manager:
        lock, permits = manager.Lock(), manager.BoundedSemaphore(2)
        child = context.Process(target=take, args=(lock, permits)); child.start(); ended(child)
        assert not lock.acquire(False) and not lock.acquire(True, 0.3)
        assert permits.acquire() and not permits.acquire(False)
        lock.release()
        raises(RuntimeError, lock.release)
        assert lock.acquire()
        permits.release(); permits.release()
        raises(ValueError, permits.release, "released too many times")
""",
        method,
    )


def test_who_is_killed_while_waiting_takes_nothing(script: Any) -> None:
    play(
        script,
        """
def take(lock): lock.acquire(); forever()

def wait(condition, ready):
    with condition:
        ready.release()
        condition.wait()
        ready.release()

def main():
    with context.Manager() as manager:
        lock, condition, ready = manager.Lock(), manager.Condition(), multiprocessing.Semaphore(0)
        lock.acquire()
        victims = [context.Process(target=take, args=(lock,)) for _ in range(2)]
        victims += [context.Process(target=wait, args=(condition, ready)) for _ in range(2)]
        for process in victims[:3]: process.start()
        ready.acquire()
        victims[3].start(); ready.acquire()  # in this order
        with condition: pass  # both wait
        time.sleep(0.2)  # so do those for the lock by now, or they never will
        for process in victims[:3]: process.kill(); ended(process, code=-9)
        time.sleep(0.3)  # the server looks ten times a second
        lock.release()
        assert lock.acquire(True, 5)
        with condition: condition.notify()
        assert ready.acquire(timeout=5), "the notification went to the dead"
        ended(victims[3])
""",
    )


def test_a_thread_ends_with_an_rlock_in_its_hands(script: Any) -> None:
    play(
        script,
        """
def main():
    with context.Manager() as manager:
        lock = manager.RLock()
        thread = threading.Thread(target=lambda: (lock.acquire(), lock.acquire())); thread.start(); thread.join()
        error = raises(OwnerDied, lock.acquire, "has closed its connection", "rlock.recover()")
        assert lock.recover() == 2 and lock.acquire() and lock.acquire()
        lock.release(); lock.release()
        raises(RuntimeError, lock.release, "un-acquired")
""",
    )
