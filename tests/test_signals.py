"""Signals in the main thread while it waits: what `test_threads_end.py` does not cover."""

from __future__ import annotations

from tests.programs import run


def test_a_handler_may_notify_what_its_thread_waits_for() -> None:
    program = """
    condition = threading.Condition()
    def handler(*_):
        with condition: condition.notify()
    signal.signal(signal.SIGALRM, handler)
    with condition:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        print(condition.wait())
    """
    assert run(program) == (0, "True\n", "")


def test_a_handler_may_wait_itself() -> None:
    program = """
    inner, outer = threading.Event(), threading.Event()
    def handler(*_):
        threading.Thread(target=inner.set).start()
        inner.wait(); outer.set()
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    print(outer.wait())
    """
    assert run(program) == (0, "True\n", "")


def test_a_signal_that_another_thread_gets_still_runs_its_handler() -> None:
    program = """
    event = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: event.set())
    other = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)); other.start()
    print(event.wait(5)); other.join()
    """
    assert run(program) == (0, "True\n", "")


def test_a_permit_wakes_somebody_when_the_handler_raises_at_the_same_time() -> None:
    # Python may drop the answer of a call that a handler interrupts at its end, so permits cannot be counted. But a
    # permit must never lie there while a thread sleeps for it.
    program = """
    class Stop(Exception): pass
    def handler(*_): raise Stop
    signal.signal(signal.SIGUSR1, handler)
    main = threading.get_ident()
    def give(semaphore, other, first):
        time.sleep(0.002)  # most rounds: the main thread is asleep by now, and the other one behind it
        other.start()
        time.sleep(0.002)
        if first: semaphore.release()
        signal.pthread_kill(main, signal.SIGUSR1)
        if not first: semaphore.release()
    for n in range(100):
        semaphore = threading.Semaphore(0)
        other = threading.Thread(target=semaphore.acquire, daemon=True)
        giver = threading.Thread(target=give, args=(semaphore, other, n % 2))
        try:
            giver.start()
            semaphore.acquire()
            signal.pause()
        except Stop: pass
        giver.join()
        end = time.monotonic() + 5
        while other.is_alive() and semaphore._value: assert time.monotonic() < end, n
        semaphore.release()
        other.join()
    """
    assert run(program) == (0, "", "")


def test_a_notification_that_a_raising_handler_spoils_goes_to_the_next() -> None:
    program = """
    class Stop(Exception): pass
    def handler(*_): raise Stop
    signal.signal(signal.SIGALRM, handler)
    condition, got = threading.Condition(), []
    def other():
        with condition: got.append(condition.wait(3))
    def notify():
        while condition._waiting < 2: time.sleep(0.005)
        with condition:
            condition.notify()  # the main thread, which came first, and which now wants the lock
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGALRM)
            time.sleep(0.3)
    threading.Thread(target=notify).start()
    thread = threading.Thread(target=other)
    try:
        with condition:
            thread.start()
            condition.wait()
    except Stop: pass
    thread.join()
    print(got)
    """
    assert run(program) == (0, "[True]\n", "")
