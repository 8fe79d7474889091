"""Pipes whose other end dies, what comes over a connection from somebody hostile, and who may talk at all."""

from __future__ import annotations

import pytest
from tests.faults.harness import check, run

METHODS = ("fork", "spawn")
DUPLEX = pytest.mark.parametrize("duplex", [True, False], ids=["duplex", "simplex"])


@DUPLEX
@pytest.mark.parametrize("method", METHODS)
def test_recv_when_the_peer_was_killed(method: str, duplex: bool) -> None:
    scenario = f"""
def peer(end): end.send("last"); mark("a"); forever()

def main():
    mine, theirs = ctx.Pipe({duplex})
    child = start(peer, theirs); theirs.close()
    await_mark("a")
    kill(child)
    assert mine.recv() == "last"
    with raises(EOFError): mine.recv()
    with raises(EOFError): mine.recv()
    end(child, code=-9)
"""
    check(scenario, method=method)


@DUPLEX
@pytest.mark.parametrize("method", METHODS)
def test_recv_that_waits_when_the_peer_is_killed(method: str, duplex: bool) -> None:
    scenario = f"""
def reader(end):
    mark("r")
    try: end.recv()
    except EOFError: mark("r", 2)

def peer(end): mark("p"); forever()

def main():
    mine, theirs = ctx.Pipe({duplex})
    writing = start(peer, theirs); theirs.close()
    reading = start(reader, mine); mine.close()
    await_mark("r"); await_mark("p"); asleep(reading.pid)
    kill(writing)
    until(lambda: count("r") == 2, "the end of the pipe", SOON)
    end(writing, code=-9); end(reading)
"""
    if method == "fork":  # a child of fork has both ends until it closes one
        scenario = scenario.replace("def peer(end): ", "def peer(end, other): other.close(); ")
        scenario = scenario.replace("start(peer, theirs)", "start(peer, theirs, mine)")
    check(scenario, method=method)


def test_recv_when_the_peer_was_killed_while_another_thread_waits_for_good() -> None:
    # Whichever thread sees the death first, the reader has lost its peer: that is no deadlock.
    check("""
def peer(end, turn):
    await_mark("p")
    spin(0.25 + 0.013 * turn)
    suicide()

def other(gate):
    try: gate.wait()
    except DeadlockError: pass

def reader(end, told):
    try: end.recv()
    except BaseException as error: told.append(error)

def main():
    import phalanx.threading as threading
    for turn in range(12):
        mark("p", 0)
        mine, theirs = ctx.Pipe(False)
        child = start(peer, theirs, turn); theirs.close()
        gate, told = ctx.Event(), []
        first = threading.Thread(target=other, args=(gate,))
        reading = threading.Thread(target=reader, args=(mine, told))
        first.start(); spin(0.04)  # so that it is the one that looks round
        reading.start(); mark("p")
        reading.join(); first.join()
        assert [type(error) for error in told] == [EOFError], told
        end(child, code=-9); mine.close()
""")


@DUPLEX
def test_recv_when_the_peer_was_killed_and_we_have_its_end_open_too(duplex: bool) -> None:
    check(f"""
def peer(end): mark("a"); forever()

def main():
    mine, theirs = ctx.Pipe({duplex})
    child = start(peer, theirs)
    await_mark("a")
    kill(child)
    with raises((EOFError, DeadlockError)): mine.recv()
    end(child, code=-9)
""")


@DUPLEX
def test_recv_that_waits_when_the_peer_is_killed_and_we_have_its_end_open_too(duplex: bool) -> None:
    check(f"""
def peer(end, parent): asleep(parent); suicide()

def main():
    mine, theirs = ctx.Pipe({duplex})
    child = start(peer, theirs, os.getpid())
    with raises((EOFError, DeadlockError)): mine.recv()
    end(child, code=-9)
""")


@DUPLEX
@pytest.mark.parametrize("method", METHODS)
def test_send_when_the_peer_was_killed(method: str, duplex: bool) -> None:
    scenario = f"""
def peer(end): mark("a"); forever()

def main():
    theirs, mine = ctx.Pipe({duplex})
    child = start(peer, theirs); theirs.close()
    await_mark("a")
    kill(child)
    def refused():
        try: mine.send(1)
        except BrokenPipeError: return True
    until(refused, "a sender learns of it", SOON)
    with raises(BrokenPipeError): mine.send_bytes(bytes(10_000_000))
    end(child, code=-9)
"""
    check(scenario, method=method)


@DUPLEX
def test_send_when_the_peer_was_killed_and_buried(duplex: bool) -> None:
    check(f"""
def peer(end): mark("a"); forever()

def main():
    theirs, mine = ctx.Pipe({duplex})
    child = start(peer, theirs); theirs.close()
    await_mark("a")
    bury(child)
    with raises(BrokenPipeError): mine.send(1)
    with raises(BrokenPipeError): mine.send_bytes(bytes(10_000_000))
""")


@DUPLEX
@pytest.mark.parametrize("timeout", [0, 0.01])
def test_poll_again_and_again_when_the_peer_was_killed(duplex: bool, timeout: float) -> None:
    check(f"""
def peer(end): mark("a"); forever()

def main():
    mine, theirs = ctx.Pipe({duplex})
    child = start(peer, theirs); theirs.close()
    await_mark("a")
    kill(child)
    until(lambda: mine.poll({timeout}), "the end of the pipe", SOON)
    with raises(EOFError): mine.recv()
    end(child, code=-9)
""")


@DUPLEX
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_peer_was_killed_before_it_had_taken_up_its_end(method: str, duplex: bool) -> None:
    scenario = f"""
def peer(end): forever()

def main():
    for delay in (0, 0, 0, 0, 0.001, 0.01, 0.1):
        mine, theirs = ctx.Pipe({duplex})
        child = start(peer, theirs); theirs.close()
        spin(delay)
        kill(child)
        reader = start(read, mine); mine.close()
        until(lambda: gone(reader.pid), f"the end of a pipe whose peer lived {{delay}} s", SOON)
        end(reader); end(child, code=-9)

def read(end):
    with raises(EOFError): end.recv()
"""
    check(scenario, method=method)


def test_an_end_that_was_in_a_queue_when_its_getter_was_killed() -> None:
    check(
        """
def getter(q): q.get()

def main():
    for item in (lambda end: (end, Poison()), lambda end: (Poison(), end)):
        q = ctx.Queue()
        mine, theirs = ctx.Pipe()
        child = start(getter, q)
        q.put(item(theirs)); theirs.close()
        end(child, code=-9)
        with raises((EOFError, DeadlockError)): mine.recv()
        mine.close()
""",
        environment={"PHALANX_FAULTS_SHARER": "1"},
    )


def test_an_end_in_a_message_that_nobody_gets() -> None:
    check(
        """
class Holder:
    def __init__(self, *inside): self.inside = inside

def main():
    # The message goes with its queue, and that with its own.
    mine, theirs = ctx.Pipe()
    one, other = ctx.Queue(), ctx.Queue()
    one.put(theirs); theirs.close()
    other.put((one, "and what lies in it")); del one
    with raises((EOFError, DeadlockError, queue.Empty)):
        if not mine.poll(0.3): raise queue.Empty
    del other
    with raises(EOFError): mine.recv()
    with raises(BrokenPipeError): mine.send(1)
    mine.close()

    # One that cannot be pickled whole goes nowhere.
    mine, theirs = ctx.Pipe()
    q = ctx.Queue()
    with raises(ZeroDivisionError): q.put([theirs, Stubborn()])
    theirs.close()
    with raises(EOFError): mine.recv()
    mine.close()

    # One whose unpickling fails is gone as well, after the end came out of it or before.
    for item in (lambda end: (end, Bomb()), lambda end: (Bomb(), end)):
        mine, theirs = ctx.Pipe()
        q.put(item(theirs)); theirs.close()
        with raises(ZeroDivisionError): q.get()
        with raises(EOFError): mine.recv()
        mine.close()
""",
        environment={"PHALANX_FAULTS_SHARER": "1"},
    )


def test_an_end_in_a_message_that_comes() -> None:
    check(
        """
def getter(q, done):
    end = q.get()[0]
    end.send("here")
    done.recv()

def main():
    q = ctx.Queue()
    for extra in (None, b"x" * 100_000, memoryview(bytearray(1 << 20))):
        mine, theirs = ctx.Pipe()
        done, told = ctx.Pipe(False)
        child = start(getter, q, done); done.close()
        q.put((theirs, extra)); theirs.close()
        assert mine.recv() == "here"
        assert not mine.poll(0.3)  # it is held by the child alone
        told.send(1)
        end(child)
        with raises(EOFError): mine.recv()
        mine.close(), told.close()
    lock = ctx.Lock()
    one, other = ctx.Pipe()
    one.send([lock, lock])
    first, second = other.recv()
    del lock
    assert first is second and first.acquire() and not second.acquire(False)
    first.release()
    one.close(), other.close()
""",
        environment={"PHALANX_FAULTS_SHARER": "1"},
    )


def test_an_end_in_a_message_that_is_read_as_bytes() -> None:
    outcome = run("""
def main():
    mine, theirs = ctx.Pipe()
    one, other = ctx.Pipe()
    one.send(theirs); theirs.close()
    theirs = pickle.loads(other.recv_bytes())
    theirs.send(5)
    assert mine.recv() == 5
""")
    assert outcome.code == 0, outcome.tell()  # nobody knows when such bytes are not needed any more: the pipe stays


@DUPLEX
def test_a_child_that_has_become_another_program_holds_no_end(duplex: bool) -> None:
    check(f"""
def main():
    mine, theirs = ctx.Pipe({duplex})
    child = os.fork()
    if child == 0: os.execvp("sleep", ["sleep", "600"])
    theirs.close()
    try:
        with raises((EOFError, DeadlockError)): mine.recv()
    finally:
        os.kill(child, signal.SIGKILL); os.waitpid(child, 0)
""")


def test_the_peer_of_a_pipe_that_is_selected_on_is_killed_again_and_again() -> None:
    check("""
def peer(end, other):
    other.close()
    while True: bump("b"); end.send(count("b"))

def main():
    moment = random.Random(5)
    for turn in range(15):
        mark("b", 0)
        mine, theirs = ctx.Pipe(False)
        assert connection.wait([mine], 0) == []
        child = start(peer, theirs, mine); theirs.close()
        last = 0
        for _ in range(20):
            assert connection.wait([mine], PATIENCE) == [mine]
            last += 1; assert mine.recv() == last
        spin(moment.random() * 0.002)
        kill(child)
        with raises(EOFError):
            while True:
                assert connection.wait([mine], PATIENCE) == [mine]
                got = mine.recv(); last += 1; assert got == last
        assert count("b") - 1 <= last <= count("b")
        end(child, code=-9); mine.close()
""")


def test_killed_at_some_moment_of_a_large_send() -> None:
    check("""
BLOB = bytes(range(256)) * 40960

def peer(end, other):
    other.close()
    for n in range(2): bump("b"); end.send((n, BLOB)); bump("d")
    forever()

def main():
    moment = random.Random(4)
    for turn in range(6):
        mark("b", 0); mark("d", 0)
        mine, theirs = ctx.Pipe(False)
        child = start(peer, theirs, mine); theirs.close()
        await_mark("b"); spin(moment.random() * 0.02)
        kill(child); end(child, code=-9)
        seen = 0
        with raises((EOFError, OSError)):
            while True: assert mine.recv() == (seen, BLOB); seen += 1
        assert count("d") <= seen <= count("b")
        mine.close()
""")


def test_what_was_sent_is_there_though_its_process_ended_at_once() -> None:
    check("""
def peer(end): end.send("first"); end.send_bytes(b"second"); os._exit(0)

def main():
    mine, theirs = ctx.Pipe()
    child = start(peer, theirs); theirs.close()
    end(child)
    assert mine.recv() == "first" and mine.recv_bytes() == b"second"
    with raises(EOFError): mine.recv()
""")


def test_pickling_that_fails_leaves_a_pipe_usable() -> None:
    check("""
def main():
    one, other = ctx.Pipe()
    with raises(ZeroDivisionError, "will not be pickled"): one.send(Stubborn())
    assert not other.poll()
    one.send((bytes(1000), Bomb())); one.send("next")
    with raises(ZeroDivisionError, "the bomb was loaded"): other.recv()
    assert other.recv() == "next"
""")


def test_wait_sees_the_death_of_a_peer() -> None:
    check("""
def peer(end): mark("a"); forever()

def main():
    mine, theirs = ctx.Pipe()
    child = start(peer, theirs); theirs.close()
    await_mark("a")
    kill(child)
    assert connection.wait([mine], PATIENCE) == [mine]
    assert connection.wait([child.sentinel], PATIENCE) == [child.sentinel]
    end(child, code=-9)
""")


# ---- hostile bytes on a connection that is a socket

HOSTILE = {
    "negative": 'struct.pack("!i", -5)',
    "most negative": 'struct.pack("!i", -(2**31)) + b"x" * 64',
    "two gigabytes": 'struct.pack("!i", 2**31 - 1) + b"x" * 64',
    "all bits": 'struct.pack("!iQ", -1, 2**64 - 1) + b"x" * 64',
    "half of all bits": 'struct.pack("!iQ", -1, 2**63 - 1) + b"x" * 64',
    "a petabyte": 'struct.pack("!iQ", -1, 2**50) + b"x" * 64',
    "truncated body": 'struct.pack("!i", 100) + b"x" * 10',
    "no body": 'struct.pack("!i", 100)',
    "truncated length": 'b"\\0\\0"',
    "truncated long length": 'struct.pack("!i", -1) + b"\\0\\0"',
    "nothing": 'b""',
}


@pytest.mark.parametrize("how", ["recv()", "recv_bytes()", "recv_bytes(1000)", "recv_bytes_into(bytearray(1000))"])
def test_hostile_lengths_and_messages_cut_short(how: str) -> None:
    # Little memory, so that nobody makes room for what was only announced.
    check(f"""
HOSTILE = [{", ".join(HOSTILE.values())}]

def main():
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 29, hard))
    wrong = []
    for data in HOSTILE:
        theirs, ours = socket.socketpair()
        end = connection.Connection(ours.detach())
        theirs.sendall(data); theirs.close()
        try: wrong.append((data[:16], end.{how}))
        except (EOFError, OSError): pass
        except BaseException as error: wrong.append((data[:16], error))
        end.close()
    assert not wrong, wrong
""")


@pytest.mark.parametrize("travels", [False, True])
def test_a_length_that_cannot_be_from_a_client(travels: bool) -> None:
    check(f"""
def client(address, data):
    end = socket.create_connection(address); end.sendall(data); mark("s"); forever()

def main():
    for data, length in ((struct.pack("!i", -5), -5), (struct.pack("!iQ", -1, 2**50), 2**50)):
        with connection.Listener(("127.0.0.1", 0)) as listener:
            child = start(client, listener.address, data)
            peer = listener.accept()
            if {travels}:
                one, other = ctx.Pipe(); one.send(peer); peer.close(); peer = other.recv(); one.close(); other.close()
            with raises(OSError, f"message of {{length}} bytes announced"): peer.recv()
            assert peer.closed
            with raises(OSError): peer.recv()
        bury(child)
    if {travels}: importlib.import_module("multiprocessing.resource_sharer").stop()
""")


def test_a_message_that_is_too_long_for_its_limit() -> None:
    check("""
def main():
    for one, other in (ctx.Pipe(), ctx.Pipe(False)[::-1]):
        one.send_bytes(bytes(1000))
        with raises(OSError, "bad message length"): other.recv_bytes(999)
        one.close(); other.close()
""")


# ---- authentication

FAMILIES = pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])


@FAMILIES
def test_a_client_with_the_wrong_key(family: str) -> None:
    check(f"""
def client(address, key):
    try: connection.Client(address, authkey=key).send(Bomb())
    except mp.AuthenticationError: mark("w")
    else: mark("r")

def main():
    with connection.Listener(family="{family}", authkey=b"right") as listener:
        wrong = start(client, listener.address, b"wrong")
        with raises(mp.AuthenticationError): listener.accept()
        end(wrong)
        assert count("w") and not count("r") and not count("!")
        right = start(client, listener.address, b"right")
        with listener.accept() as peer:
            with raises(ZeroDivisionError): peer.recv()
        end(right)
        assert count("r") and count("!")
""")


@FAMILIES
@pytest.mark.parametrize("answer", ["bomb", "long", "cut", "nothing", "welcome"])
def test_nothing_is_unpickled_before_authentication(family: str, answer: str) -> None:
    check(f"""
def frame(data): return struct.pack("!i", len(data)) + data

ANSWERS = dict(
    bomb=frame(pickle.dumps(Bomb())) * 3,
    long=struct.pack("!iQ", -1, 2**62) + b"x" * 100000,
    cut=frame(pickle.dumps(Bomb()))[:-3],
    nothing=b"",
    welcome=frame(b"#WELCOME#") + frame(b"#CHALLENGE#" + bytes(20)) + frame(pickle.dumps(Bomb())),
)

def client(address):
    with socket.socket(socket.{family}) as end:
        end.connect(address)
        try: end.sendall(ANSWERS["{answer}"]); end.shutdown(socket.SHUT_WR)
        except OSError: pass
        try:
            while end.recv(4096): pass
        except OSError: pass

def main():
    with connection.Listener(family="{family}", authkey=b"right") as listener:
        child = start(client, listener.address)
        with raises((mp.AuthenticationError, EOFError, OSError)): listener.accept()
        end(child)
        assert not count("!")
""")


def test_a_listener_that_is_not_who_it_says() -> None:
    check("""
def listen(server):
    end, _ = server.accept()
    challenge = b"#CHALLENGE#" + bytes(20)
    bomb = pickle.dumps(Bomb())
    end.sendall(struct.pack("!i", len(challenge)) + challenge + struct.pack("!i", len(bomb)) + bomb)
    end.close()

def main():
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = start(listen, server)
        with raises((mp.AuthenticationError, EOFError, OSError)):
            connection.Client(server.getsockname(), authkey=b"right")
        end(child)
        assert not count("!")
""")
