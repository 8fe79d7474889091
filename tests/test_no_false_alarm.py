"""Programs in which nearly everybody sleeps for several of the detector's looks, and which end well all the same.

Each takes about 0.7 s because somebody outside the detector's sight does: a child process, a timer of the kernel, a C
function. The detector looks after every 100 ms of a sleep.
"""

from __future__ import annotations

import textwrap

import pytest
from tests.programs import run

# `outside()` returns after 0.7 s in a read of a pipe; `sleepers(n)` are threads asleep until `go` is set.
TOOLS = """
import asyncio, _thread, concurrent.futures as futures, ctypes, subprocess
SLOW, go = 0.7, threading.Event()
def child(command=f"sleep {SLOW}"):
    return subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
def outside(command=f"sleep {SLOW}"):
    with child(command) as process: return process.stdout.read()
def start(*targets):
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads: thread.start()
    return threads
def sleepers(n=2): return start(*[go.wait] * n)
def finish(threads):
    go.set()
    for thread in threads: thread.join()
def kill(name): return child(f"sleep {SLOW}; kill -{name} {os.getpid()}")
"""

PROGRAMS = {
    "timed waits of every kind": """
        q, full, lock, barrier = queue.Queue(), queue.Queue(1), threading.Lock(), threading.Barrier(2)
        opened, condition, told = queue.Queue(), threading.Condition(), []
        full.put(1); opened.mutex; lock.acquire()
        def expect(step):
            try: told.append(not step())
            except (queue.Empty, queue.Full, threading.BrokenBarrierError, futures.TimeoutError): told.append(True)
        def notified():
            with condition: return condition.wait(SLOW)
        asleep = sleepers()
        steps = [
            lambda: q.get(timeout=SLOW), lambda: full.put(1, timeout=SLOW), lambda: lock.acquire(timeout=SLOW),
            lambda: barrier.wait(SLOW), lambda: opened.get(timeout=SLOW), lambda: queue.SimpleQueue().get(timeout=SLOW),
            lambda: threading.Semaphore(0).acquire(timeout=SLOW), lambda: threading.Event().wait(SLOW), notified,
            lambda: futures.Future().result(SLOW), lambda: asleep[0].join(SLOW),
            lambda: futures.wait([futures.Future()], SLOW).done,
        ]
        # One at a time, none of them with another awake thread, and all at once.
        waits = start(*[lambda step=step: expect(step) for step in steps])
        for thread in waits: thread.join()
        assert told == [True] * len(steps), told
        finish(asleep)
    """,
    "a timed wait alone": "assert not threading.Event().wait(SLOW)",
    "a timed sleeper wakes the others": """
        first = threading.Event()
        asleep = sleepers(3) + start(lambda: (first.wait(SLOW), go.set()))
        go.wait(); finish(asleep)
    """,
    "a timer": "threading.Timer(SLOW, go.set).start(); asleep = sleepers(); go.wait(); finish(asleep)",
    "a reader of a pipe wakes a chain": """
        events = [threading.Event() for _ in range(6)]
        chain = start(*[lambda n=n: (events[n].wait(), events[n + 1].set()) for n in range(5)])
        asleep = sleepers(); chain += start(lambda: (outside(), events[0].set()))
        events[-1].wait(); finish(asleep + chain)
    """,
    "a lock as a gate": """
        gate, q = threading.Lock(), queue.Queue()
        gate.acquire()
        asleep = start(lambda: (outside(), gate.release()), lambda: q.put(go.wait()))
        gate.acquire(); go.set(); assert q.get(); finish(asleep)
    """,
    "the holder of a with-lock reads": """
        lock, held = threading.RLock(), threading.Event()
        def hold():
            with lock: held.set(); outside()
        asleep = sleepers() + start(hold); held.wait()
        with lock: finish(asleep)
    """,
    "an alarm": """
        signal.signal(signal.SIGALRM, lambda *_: go.set())
        signal.setitimer(signal.ITIMER_REAL, SLOW)
        asleep = sleepers(); go.wait(); finish(asleep)
    """,
    "an own handler for Ctrl-C": """
        signal.signal(signal.SIGINT, lambda *_: go.set())
        asleep = sleepers(); sender = kill("INT"); go.wait(); finish(asleep); sender.communicate()
    """,
    "a handler while the main thread joins": """
        signal.signal(signal.SIGTERM, lambda *_: go.set())
        sender = kill("TERM"); finish_later = sleepers()
        for thread in finish_later: thread.join()
        sender.communicate()
    """,
    "a handler that raises out of a wait": """
        def handler(*_): raise KeyError
        signal.signal(signal.SIGUSR1, handler); sender = kill("USR1")
        try: queue.Queue().get()
        except KeyError: pass
        sender.communicate()
    """,
    "sigwait in a thread": """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        asleep = sleepers() + start(lambda: (signal.sigwait({signal.SIGUSR1}), go.set()))
        sender = kill("USR1"); go.wait(); finish(asleep); sender.communicate()
    """,
    "daemons at exit": """
        pool, q = futures.ThreadPoolExecutor(2), queue.Queue()
        for step in (q.get, q.join, threading.Event().wait, threading.Semaphore(0).acquire):
            q.put(1)
            threading.Thread(target=lambda step=step: (step(), q.get(), q.get()), daemon=True).start()
        pool.submit(int).result()
        atexit.register(outside)
    """,
    "non-daemons that end after the main thread": """
        asleep = sleepers(); threading.Thread(target=lambda: (outside(), go.set())).start()
    """,
    "an idle pool and a main thread that reads": """
        pool = futures.ThreadPoolExecutor(2)
        for _ in pool.map(int, range(4)): pass
        asleep = sleepers()
        with child(f"sleep {SLOW}; echo go") as process:
            os.dup2(process.stdout.fileno(), 0)
            assert input() == "go"
        finish(asleep)
    """,
    "a result from a worker that reads": """
        asleep = sleepers()
        with futures.ThreadPoolExecutor(2) as pool:
            assert pool.submit(outside, f"sleep {SLOW}; echo 7").result() == "7\\n"
            assert len(list(futures.as_completed([pool.submit(outside, "true"), pool.submit(int)]))) == 2
        finish(asleep)
    """,
    "asyncio with threads": """
        async def main():
            loop = asyncio.get_running_loop()
            results = await asyncio.gather(
                loop.run_in_executor(None, outside), asyncio.to_thread(outside), asyncio.to_thread(go.wait, SLOW),
                asyncio.sleep(SLOW, "slept"))
            assert results == ["", "", False, "slept"], results
        asleep = sleepers(); asyncio.run(main()); finish(asleep)
    """,
    "a loop in another thread": """
        loop = asyncio.new_event_loop()
        asleep = sleepers() + start(loop.run_forever)
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(SLOW, 5), loop).result() == 5
        loop.call_soon_threadsafe(loop.stop); finish(asleep); loop.close()
    """,
    "communicate": """
        asleep = sleepers()
        code = ["sh", "-c", f"cat; sleep {SLOW}; echo err >&2"]
        ended = subprocess.run(code, input="in", capture_output=True, text=True)
        assert (ended.stdout, ended.stderr) == ("in", "err\\n")
        finish(asleep)
    """,
    "a foreign thread that sleeps in C and calls back": """
        libc, made = ctypes.CDLL(None), ctypes.c_ulong()
        @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        def body(_): libc.usleep(int(SLOW * 1e6)); go.set(); return None
        asleep = sleepers()
        assert libc.pthread_create(ctypes.byref(made), None, body, None) == 0
        go.wait(); libc.pthread_join(made, None); finish(asleep)
    """,
    "a timer of the C library that calls back": """
        libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
        @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        def body(_): go.set()
        class Event(ctypes.Structure):
            _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int),
                ("function", type(body)), ("attributes", ctypes.c_void_p), ("rest", ctypes.c_char * 32)]
        asleep, event = sleepers(), Event(None, 0, 2, body, None)  # SIGEV_THREAD
        assert libc.timer_create(1, ctypes.byref(event), ctypes.byref(timer)) == 0
        spec = (ctypes.c_long * 4)(0, 0, 0, int(SLOW * 1e9))
        assert libc.timer_settime(timer, 0, ctypes.byref(spec), None) == 0
        go.wait(); finish(asleep)
    """,
    "a lock of the standard library that was there before": """
        lock = threading._active_limbo_lock
        assert type(lock) not in (type(threading.Lock()), type(threading.RLock()))
        held = threading.Event()
        def hold():
            with lock: held.set(); outside()
        asleep = sleepers(); holder = threading.Thread(target=hold); holder.start(); held.wait()
        threading.active_count()  # waits for that lock
        finish(asleep + [holder])
    """,
    "many plain locks and one sleeper each": """
        phalanx.uninstall()
        plain = [_thread.allocate_lock() for _ in range(4)]
        phalanx.install()
        for lock in plain: lock.acquire()
        def passes(n): plain[n].acquire(); n < 3 and plain[n + 1].release()
        chain = start(*[lambda n=n: passes(n) for n in range(4)])
        asleep = sleepers() + start(lambda: (outside(), plain[0].release()))
        chain[-1].join(); finish(asleep + chain)
    """,
    "a slow start": """
        # The new thread cannot begin while a foreign one holds the interpreter, and start() waits for it.
        libc, held, made = ctypes.PyDLL(None), ctypes.CDLL(None), ctypes.c_ulong()
        @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        def body(_): libc.usleep(int(SLOW * 1e6)); return None
        asleep = sleepers()
        held.pthread_create(ctypes.byref(made), None, body, None)
        finish(asleep + start(int, int)); held.pthread_join(made, None)
    """,
    "a raw thread": """
        asleep = sleepers(); lock = _thread.allocate_lock(); lock.acquire()
        _thread.start_new_thread(lambda: (outside(), lock.release()), ())
        lock.acquire(); finish(asleep)
    """,
    "a lock between processes": """
        import multiprocessing
        context = multiprocessing.get_context("fork"); lock, q = context.Lock(), context.Queue()
        def hold():
            with lock: q.put(1); outside()
        process = context.Process(target=hold); process.start(); q.get()
        asleep = sleepers(); lock.acquire(); finish(asleep); process.join()
    """,
    "a ring that never rests": """
        ring, end = [threading.Semaphore(0) for _ in range(6)], time.monotonic() + SLOW
        def turn(n):
            while True:
                ring[n].acquire()
                over = time.monotonic() > end
                ring[(n + 1) % 6].release()
                if over: return
        asleep = sleepers(); turns = start(*[lambda n=n: turn(n) for n in range(6)])
        ring[0].release()
        for thread in turns: thread.join()
        finish(asleep)
    """,
    "threads that come and go": """
        asleep, end, done = sleepers(), time.monotonic() + SLOW, threading.Event()
        def relay():
            if time.monotonic() > end: done.set()
            else: threading.Thread(target=relay).start()
        relay(); done.wait(); finish(asleep)
    """,
    "a child of a fork": """
        asleep = sleepers(); pid = os.fork()
        if pid == 0:
            inside = threading.Event(); start(lambda: (outside(), inside.set())); inside.wait(); os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        finish(asleep)
    """,
}


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_ends_well_and_silent(name: str) -> None:
    outcome = run(TOOLS + textwrap.dedent(PROGRAMS[name]), deadline=15)
    assert outcome == (0, "", ""), outcome.err
