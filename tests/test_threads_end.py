"""Threads at the end of the program, across a fork, and under signals: whole programs with a deadline."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

DEADLINE = 30


def run(code, *, expect=0):
    """Run a script in a fresh interpreter, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


# ---------------------------------------------------------------- the end of the program

WAITS = {
    "Lock": "lock = threading.Lock(); lock.acquire(); wait = lock.acquire",
    "Lock with": "lock = threading.Lock(); lock.acquire(); wait = lock.__enter__",
    "RLock": "lock = threading.RLock(); lock.acquire(); wait = lock.acquire",
    "Condition": "c = threading.Condition()\ndef wait():\n    with c: c.wait()",
    "Condition.wait_for": "c = threading.Condition(threading.Lock())\ndef wait():\n    with c: c.wait_for(int)",
    "Semaphore": "wait = threading.Semaphore(0).acquire",
    "BoundedSemaphore": "s = threading.BoundedSemaphore(1); s.acquire(); wait = s.acquire",
    "Event": "wait = threading.Event().wait",
    "Event timed": "import functools; wait = functools.partial(threading.Event().wait, 60)",
    "Barrier": "wait = threading.Barrier(9).wait",
    "join": "t = threading.Thread(target=time.sleep, args=(60,), daemon=True); t.start(); wait = t.join",
    "join timed": "t = threading.Thread(target=time.sleep, args=(60,), daemon=True); t.start()\ndef wait(): t.join(60)",
    "Queue.get": "wait = queue.Queue().get",
    "Queue.put": "q = queue.Queue(1); q.put(1)\ndef wait(): q.put(2)",
    "Queue.join": "q = queue.Queue(); q.put(1); wait = q.join",
    "LifoQueue.get": "wait = queue.LifoQueue().get",
    "PriorityQueue.get": "wait = queue.PriorityQueue().get",
    "SimpleQueue.get": "wait = queue.SimpleQueue().get",
    "result": "wait = concurrent.futures.Future().result",
}


@pytest.mark.parametrize("kind", WAITS)
def test_daemon_threads_asleep_at_exit_do_no_harm(kind):
    done = run(f"""
import phalanx
phalanx.install()
import concurrent.futures, queue, threading, time
{WAITS[kind]}
threads = [threading.Thread(target=wait, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
time.sleep(0.1)
assert all(thread.is_alive() for thread in threads)
print("end of main")
""")
    assert (done.stdout, done.stderr) == ("end of main\n", "")


def test_daemon_threads_that_wake_up_all_the_time_do_no_harm_at_exit():
    for _ in range(3):
        done = run("""
            import phalanx
            phalanx.install()
            import queue, threading, time
            q = queue.Queue(1)
            lock, event, condition = threading.Lock(), threading.Event(), threading.Condition()
            def spin(wait):
                while True:
                    wait()
            def locked():
                with lock:
                    time.sleep(0)
            def conditioned():
                with condition:
                    condition.wait(0.001)
                    condition.notify_all()
            for wait in (locked, locked, conditioned, conditioned, q.get, lambda: q.put(1), lambda: event.wait(0.001)):
                threading.Thread(target=spin, args=(wait,), daemon=True).start()
            time.sleep(0.1)
        """)
        assert done.stderr == ""


def test_the_order_of_things_at_exit():
    done = run("""
        import atexit, threading as std, time
        import phalanx
        from phalanx import threading
        def slow(name):
            time.sleep(0.1)
            print(name, flush=True)
        def parent():
            time.sleep(0.1)
            try:
                threading.Thread(target=slow, args=("thread of a thread",)).start()
            except RuntimeError:  # 3.12 starts no thread any more once the main thread has ended
                slow("thread of a thread")
        def joiner():
            threading.main_thread().join()
            print("main thread has ended", flush=True)
        atexit.register(print, "atexit", flush=True)
        threading._register_atexit(print, "registered first", flush=True)
        threading._register_atexit(print, "registered second", flush=True)
        threading.Thread(target=joiner).start()
        threading.Thread(target=parent).start()
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        print("end of main", flush=True)
    """)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "end of main",
        "registered second",
        "registered first",
        "main thread has ended",
        "thread of a thread",
        "atexit",
    ]


def test_registering_at_exit_is_refused_after_the_threads_were_joined():
    done = run("""
        import atexit
        from phalanx import threading
        def late():
            try:
                threading._register_atexit(print)
            except RuntimeError as error:
                print(error)
        atexit.register(late)
    """)
    assert done.stdout == "can't register atexit after shutdown\n"


def test_shutdown_may_be_called_early_and_twice():
    done = run("""
        from phalanx import threading
        done = []
        threading._register_atexit(done.append, "once")
        threading.Thread(target=done.append, args=("thread",)).start()
        threading._shutdown()
        threading._shutdown()
        print(sorted(done))
    """)
    assert done.stdout == "['once', 'thread']\n"


def test_threads_started_before_the_adoption_are_waited_for():
    done = run("""
        import threading, time
        threading.Thread(target=lambda: (time.sleep(0.2), print("early", flush=True))).start()
        import phalanx.threading
        late = threading.Thread(target=lambda: (time.sleep(0.1), print("late", flush=True)))
        late.start()
        print("end of main", flush=True)
    """)
    assert done.stdout.splitlines() == ["end of main", "late", "early"]


# ---------------------------------------------------------------- fork

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@forks
def test_threads_left_behind_by_a_fork_count_as_ended():
    done = run("""
        import os, warnings
        warnings.simplefilter("ignore")
        from phalanx import threading
        gate = threading.Event()
        others = [threading.Thread(target=gate.wait, args=(20,)) for _ in range(3)]
        for thread in others:
            thread.start()
        joiner = threading.Thread(target=others[0].join)
        joiner.start()
        pid = os.fork()
        if pid == 0:
            for thread in (*others, joiner):
                thread.join()
                assert not thread.is_alive()
            assert threading.enumerate() == [threading.main_thread()]
            fresh = threading.Thread(target=print, args=("child",))
            fresh.start()
            fresh.join()
        else:
            gate.set()
            assert os.waitpid(pid, 0)[1] == 0
            joiner.join()
    """)
    assert done.stdout == "child\n"


@forks
def test_the_thread_that_forks_is_the_main_thread_of_the_child():
    done = run("""
        import os, sys, warnings
        warnings.simplefilter("ignore")
        from phalanx import threading
        main = threading.current_thread()
        def follow(thread):
            thread.join()
            print("the forking thread has ended", flush=True)
        def work():
            pid = os.fork()
            if pid == 0:
                main.join()
                assert threading.main_thread() is threading.current_thread() is worker
                inner = threading.Thread(target=print, args=("child",), kwargs={"flush": True})
                inner.start()
                inner.join()
                threading.Thread(target=follow, args=(worker,)).start()
            else:
                assert os.waitpid(pid, 0)[1] == 0
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        print("end of main")
    """)
    assert done.stdout == "child\nthe forking thread has ended\nend of main\n"
    assert done.stderr == ""


@forks
def test_a_fork_at_exit_leaves_no_trace():
    done = run("""
        import atexit, os, sys
        from phalanx import threading
        def at_exit():
            try:
                pid = os.fork()
            except RuntimeError:  # from 3.12 on: can't fork at interpreter shutdown
                print("parent")
                return
            if pid == 0:
                other = threading.Thread(target=threading.main_thread().join)
                try:
                    other.start()
                except RuntimeError:  # from 3.12 on: can't create new thread at interpreter shutdown
                    os._exit(0)
                other.join()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            print("parent")
        atexit.register(at_exit)
    """)
    assert (done.stdout, done.stderr) == ("parent\n", "")


# ---------------------------------------------------------------- signals

INTERRUPTED = {
    "join": "thread.join()",
    "join timed": "thread.join(60)",
    "Event": "threading.Event().wait()",
    "Event timed": "threading.Event().wait(60)",
    "Lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "RLock": "lock = threading.RLock(); hold(lock); lock.acquire()",
    "Semaphore": "threading.Semaphore(0).acquire()",
    "Barrier": "threading.Barrier(2).wait()",
    "Condition": "c = threading.Condition(); c.acquire(); c.wait()",
    "Queue.get": "queue.Queue().get()",
    "Queue.put": "q = queue.Queue(1); q.put(1); q.put(1)",
    "Queue.join": "q = queue.Queue(); q.put(1); q.join()",
    "SimpleQueue.get": "queue.SimpleQueue().get()",
    "result": "concurrent.futures.Future().result()",
}

SIGNALLED = """
import phalanx
phalanx.install()
import concurrent.futures, os, queue, signal, sys, threading, time
def hold(lock):
    taken = threading.Event()
    def other():
        lock.acquire()
        taken.set()
        time.sleep(60)
    threading.Thread(target=other, daemon=True).start()
    taken.wait()
thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
thread.start()
"""


@pytest.mark.parametrize("kind", INTERRUPTED)
def test_ctrl_c_ends_a_wait(kind):
    code = SIGNALLED + (
        f"def shoot():\n    time.sleep(0.2)\n    os.kill(os.getpid(), signal.SIGINT)\n"
        f"threading.Thread(target=shoot, daemon=True).start()\n"
        f"try:\n    {INTERRUPTED[kind]}\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    )
    assert run(code).stdout == "interrupted\n"


def test_ctrl_c_ends_the_wait_at_exit_as_in_the_standard_library():
    script = """
        import os, signal, sys, time
        {imports}
        import threading
        def shoot():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        threading.Thread(target=shoot).start()
        print("end of main", flush=True)
    """
    ends = []
    for imports in ("", "import phalanx; phalanx.install()"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script).format(imports=imports)],
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        ends.append((done.returncode, done.stdout, done.stderr.split()[-1]))
    assert ends[0] == ends[1] == (0, "end of main\n", "KeyboardInterrupt:")


TIMED = {
    "join": "thread.join(0.5)",
    "Event": "assert threading.Event().wait(0.5) is False",
    "Lock": "lock = threading.Lock(); lock.acquire(); assert lock.acquire(timeout=0.5) is False",
    "RLock": "lock = threading.RLock(); hold(lock); assert lock.acquire(timeout=0.5) is False",
    "Semaphore": "assert threading.Semaphore(0).acquire(timeout=0.5) is False",
    "Condition": "c = threading.Condition(); c.acquire(); assert c.wait(0.5) is False",
    "Condition.wait_for": "c = threading.Condition(); c.acquire(); assert c.wait_for(lambda: 0, 0.5) == 0",
    "Barrier": "try: threading.Barrier(2).wait(0.5)\n    except threading.BrokenBarrierError: pass",
    "Queue.get": "try: queue.Queue().get(timeout=0.5)\n    except queue.Empty: pass",
}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
@pytest.mark.parametrize("kind", TIMED)
def test_signal_handlers_run_during_a_wait_and_the_wait_keeps_its_end(kind):
    code = SIGNALLED + textwrap.dedent(f"""
        count = []
        signal.signal(signal.SIGALRM, lambda number, frame: count.append(time.monotonic()))
        def wait():
            {TIMED[kind].replace(chr(10), chr(10) + "        ")}
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        began = time.monotonic()
        wait()
        ended = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0)
        during = [at for at in count if began < at < ended - 0.02]
        assert len(during) >= 3, (began, count)
        assert 0.499 <= ended - began < 10, ended - began
        print("kept")
    """)
    assert run(code).stdout == "kept\n"


def test_an_exception_from_a_signal_handler_during_join_leaves_the_thread_as_it_is():
    code = textwrap.dedent("""
        class Stop(Exception):
            pass
        def handler(number, frame):
            raise Stop
        signal.signal(signal.SIGALRM, handler)
        for limit in (None, 60):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                thread.join(limit)
            except Stop:
                assert thread.is_alive()
                print("stopped")
    """)
    done = run(SIGNALLED + code)
    assert done.stdout == "stopped\nstopped\n"
