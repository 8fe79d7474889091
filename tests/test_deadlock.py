"""Deadlocks found and not found, in whole programs: what the corpus does not cover."""

from __future__ import annotations

import pytest
from tests.programs import run


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_a_cycle_of_locks_is_told_to_one_thread_with_all_names(length: int) -> None:
    program = """
    n = int(sys.argv[1])
    locks, meet, told = [threading.Lock() for _ in range(n)], threading.Barrier(n), []
    def take(k):
        try:
            with locks[k]:
                meet.wait()
                with locks[(k + 1) % n]: pass
        except phalanx.DeadlockError as error: told.append(str(error))
    threads = [threading.Thread(target=take, args=(k,), name=f"t{k}") for k in range(n)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert len(told) == 1, told
    assert all(thread.name in told[0] for thread in threads), told
    """
    assert run(program, str(length), deadline=10) == (0, "", "")


def test_report_prints_once_and_the_program_goes_on_waiting() -> None:
    program = """
    lock = threading.Lock()
    threading.Timer(1.5, lambda: os._exit(7)).start()
    with lock: lock.acquire()
    """
    code, _, err = run(program, deadlock="report")
    assert code == 7
    assert err.count("reported, not raised") == 1


def test_a_handler_that_is_running_is_not_asleep() -> None:
    program = """
    wake, stop = threading.Event(), threading.Event()
    def handler(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(0.8)
        stop.set()
    signal.signal(signal.SIGTERM, handler)
    thread = threading.Thread(target=wake.wait); thread.start()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    stop.wait(); wake.set(); thread.join()
    """
    assert run(program) == (0, "", "")


def test_a_handler_for_ctrl_c_counts_from_the_start_of_the_wait() -> None:
    # The worker looks 100 ms after it went to sleep, before the main thread has slept that long.
    program = """
    import subprocess
    wake, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=wake.wait); thread.start()
    time.sleep(0.05)
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    code = f"import os, signal, time; time.sleep(0.7); os.kill({os.getpid()}, signal.SIGINT)"
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    stop.wait(); wake.set(); thread.join(); child.wait()
    """
    assert run(program, deadline=6) == (0, "", "")


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_an_error_while_taking_the_lock_back_leaves_the_lock_to_its_owner(kind: str) -> None:
    program = """
    lock, ready, told = getattr(threading, sys.argv[1])(), threading.Event(), []
    condition = threading.Condition(lock)
    def waiter():
        try:
            with condition:
                ready.set()
                condition.wait()
        except BaseException as error: told.append(type(error).__name__)
    thread = threading.Thread(target=waiter); thread.start(); ready.wait()
    try:
        with condition:
            condition.notify()
            thread.join()
    except BaseException as error: told.append(type(error).__name__)
    print(told)
    """
    assert run(program, kind) == (0, "['DeadlockError']\n", "")
