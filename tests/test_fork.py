"""`fork` in a process with threads: the child works, and what it can never get it is told about."""

from __future__ import annotations

import pytest
from tests.programs import run


def test_importing_and_installing_starts_no_thread() -> None:
    assert run("print(len(os.listdir('/proc/self/task')))") == (0, "1\n", "")


@pytest.mark.parametrize("forker", ["main", "other"])
def test_the_child_can_use_everything(forker: str) -> None:
    program = """
    gate, q, lock, rlock = threading.Event(), queue.Queue(), threading.Lock(), threading.RLock()
    waiters = [threading.Thread(target=wait, daemon=True) for wait in (gate.wait, q.get, q.get)]
    for thread in waiters: thread.start()
    def child():
        assert rlock._is_owned() and lock.locked()
        lock.release(); rlock.release()
        inner, done = queue.Queue(1), threading.Barrier(2)
        thread = threading.Thread(target=lambda: (inner.put(1), inner.put(2), done.wait())); thread.start()
        assert (inner.get(), inner.get()) == (1, 2)
        done.wait(); thread.join(); gate.set(); q.put(1)
        assert q.get() == 1
        again = threading.Lock()
        try:
            with again, again: pass
        except phalanx.DeadlockError:
            os._exit(0)
    def fork():
        with lock, rlock:
            pid = os.fork()
            if pid == 0:
                try: child()
                finally: os._exit(1)
            print(reap(pid))
    if sys.argv[1] == "main": fork()
    else:
        thread = threading.Thread(target=fork); thread.start(); thread.join()
    """
    assert run(program, forker) == (0, "0\n", "")


def test_a_lock_whose_owner_was_left_behind() -> None:
    program = """
    lock, held, free = threading.Lock(), threading.Event(), threading.Event()
    def hold():
        with lock: held.set(); free.wait()
    thread = threading.Thread(target=hold); thread.start(); held.wait()
    pid = os.fork()
    if pid == 0:
        try: lock.acquire()
        except phalanx.DeadlockError as error:
            lock._at_fork_reinit()
            os._exit(0 if "did not survive fork" in str(error) and lock.acquire(False) else 2)
        os._exit(3)
    print(reap(pid)); free.set(); thread.join()
    """
    assert run(program) == (0, "0\n", "")


LOAD = """
q, lock, semaphore = queue.Queue(3), threading.Lock(), threading.Semaphore(1)
event, barrier, condition = threading.Event(), threading.Barrier(2), threading.Condition()
def spin(step):
    while True:
        try: step()
        except (queue.Empty, queue.Full, threading.BrokenBarrierError): barrier.reset()
def locked():
    with lock, semaphore: event.set(); event.clear()
def noticed():
    with condition: condition.notify(); condition.wait(0.001)
steps = {
    "queues": [lambda: q.put(1, timeout=0.01), lambda: q.get(timeout=0.01)],
    "locks": [locked, locked, noticed, noticed],
    "barrier": [lambda: barrier.wait(0.05)],
}[sys.argv[1]]
for k in range(8):
    threading.Thread(target=spin, args=(steps[k % len(steps)],), daemon=True).start()
for _ in range(200):
    pid = os.fork()
    if pid == 0:
        fresh = queue.Queue(); fresh.put(1); fresh.get()
        q.qsize(); barrier.n_waiting; event.is_set(); semaphore.acquire(False)
        os._exit(0)
    if reap(pid, 2) != 0:
        print("hang")
        break
"""


@pytest.mark.parametrize("load", ["queues", "locks", "barrier"])
def test_two_hundred_forks_under_load(load: str) -> None:
    assert run(LOAD, load) == (0, "", "")
