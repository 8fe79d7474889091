"""Processes: how they start, how they end, what is told about it, and who may outlive whom."""

from __future__ import annotations

import multiprocessing as standard
import os
import signal
import subprocess
import sys
import textwrap
from multiprocessing import context as standard_context
from multiprocessing import process as standard_process
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from phalanx import _settings
from phalanx import multiprocessing as ours
from phalanx.multiprocessing import _reasons, _start, popen_fork

DEADLINE = 40
METHODS = ("fork", "spawn", "forkserver")
HEADS = {
    "ours": "from phalanx import multiprocessing\n",
    "standard": "import phalanx; phalanx.install()\nimport multiprocessing\n",
}
IMPORTS = "import os, signal, sys, threading, time\n"


class Outcome(NamedTuple):
    """How a program ended."""

    code: int
    out: str
    err: str


def run(path: Path, program: str, *arguments: str, head: str = "ours", **environment: str) -> Outcome:
    """Run a program from a file of its own; its children belong to a group that is ended at the deadline."""
    path.write_text(HEADS.get(head, head) + IMPORTS + textwrap.dedent(program))
    clean = {name: value for name, value in os.environ.items() if name not in ("PHALANX_DEADLOCK", "PHALANX_SPAWN")}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(path), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean, **environment},
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"it hangs\n{out}\n{err}")
        return Outcome(process.returncode, out, err)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "program.py"


# ---------------------------------------------------------------- the end, in words


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended normally"),
        (1, "exited with code 1; most often an exception"),
        (3, "exited with code 3"),
        (-signal.SIGKILL, "killed by SIGKILL; most often the kernel running out of memory"),
        (-signal.SIGSEGV, "crashed by SIGSEGV"),
        (-signal.SIGTERM, "ended by SIGTERM"),
        (-signal.SIGUSR1, "killed by SIGUSR1"),
        (-(signal.SIGRTMIN + 3), "killed by signal"),
    ],
)
def test_reasons(code: int, words: str) -> None:
    assert _reasons.reason(code).startswith(words)


def test_reasons_need_no_guess_where_it_was_us() -> None:
    assert _reasons.reason(-signal.SIGKILL, sent=signal.SIGKILL) == "killed by kill() (SIGKILL)"
    assert _reasons.reason(-signal.SIGTERM, sent=signal.SIGTERM) == "ended by terminate() (SIGTERM)"
    assert _reasons.reason(-signal.SIGKILL, sent=signal.SIGTERM).startswith("killed by SIGKILL; most often")
    assert _reasons.reason(3, sent=signal.SIGKILL) == "exited with code 3"
    assert "lost" in _reasons.reason(255, lost=True)


def test_each_signal_that_ends_a_process_has_a_name() -> None:
    for number in signal.valid_signals():
        assert _reasons.reason(-number).split()[0] in ("killed", "ended", "crashed", "interrupted")


ENDINGS = """
def end(how):
    if how == "raise": raise ValueError("on purpose")
    if how == "exit": sys.exit(3)
    if how == "abrupt": os._exit(4)
    if how == "last": sys.exit(255)
    if how == "segv": signal.raise_signal(signal.SIGSEGV)
    if how in ("kill", "terminate"): signal.pause()
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    for how in ("return", "raise", "exit", "abrupt", "last", "segv", "kill", "terminate"):
        process = context.Process(target=end, args=(how,))
        assert process.exitcode is None and process.exit_reason is None
        process.start()
        if how in ("kill", "terminate"):
            assert process.exit_reason is None and process.is_alive()
            getattr(process, how)()
        process.join()
        assert not process.is_alive() and process not in multiprocessing.active_children()
        print(how, process.exitcode, process.exit_reason)
        process.close()
        try: process.exit_reason
        except ValueError: pass
        else: print("closed, and yet it says something")
"""


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", METHODS)
def test_every_ending_is_told(script: Path, method: str, head: str) -> None:
    code, out, err = run(script, ENDINGS, method, head=head)
    assert code == 0, err
    assert err.count("Traceback") == 1 and "ValueError: on purpose" in err
    assert [line.split(";")[0].split(":")[0] for line in out.splitlines()] == [
        "return 0 ended normally",
        "raise 1 exited with code 1",
        "exit 3 exited with code 3",
        "abrupt 4 exited with code 4",
        "last 255 exited with code 255",
        "segv -11 crashed by SIGSEGV",
        "kill -9 killed by kill() (SIGKILL)",
        "terminate -15 ended by terminate() (SIGTERM)",
    ]


def test_a_child_that_somebody_else_has_waited_for(script: Path) -> None:
    program = """
    if __name__ == "__main__":
        for method in ("fork", "spawn"):
            child = multiprocessing.get_context(method).Process(target=int)
            child.start()
            os.waitpid(child.pid, 0)
            child.join()
            print(child.is_alive(), child.exitcode, "lost" in child.exit_reason, multiprocessing.active_children())
    """
    assert run(script, program) == (0, "False 255 True []\n" * 2, "")


def test_sigchld_ignored(script: Path) -> None:
    program = """
    if __name__ == "__main__":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for method in ("fork", "spawn"):
            process = multiprocessing.get_context(method).Process(target=int)
            process.start(); process.join()
            print(process.is_alive(), process.exitcode)
    """
    assert run(script, program) == (0, "False 255\n" * 2, "")


@pytest.mark.parametrize("method", METHODS)
def test_many_threads_join_one_process(script: Path, method: str) -> None:
    program = """
    def wait(gate): gate.recv(); sys.exit(5)
    if __name__ == "__main__":
        from multiprocessing import Pipe
        context = multiprocessing.get_context(sys.argv[1])
        ours, theirs = Pipe()
        process = context.Process(target=wait, args=(theirs,))
        process.start()
        assert process.join(0) is None and process.join(0.01) is None and process.is_alive()
        codes, barrier = [], threading.Barrier(9)
        def join(timeout): barrier.wait(); process.join(timeout); codes.append(process.exitcode)
        threads = [threading.Thread(target=join, args=((None, 30)[k % 2],)) for k in range(8)]
        for thread in threads: thread.start()
        barrier.wait()
        ours.send(None)
        for thread in threads: thread.join()
        print(codes, multiprocessing.active_children())
    """
    assert run(script, program, method) == (0, f"{[5] * 8} []\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_sentinels(script: Path, method: str) -> None:
    program = """
    def wait(gate): gate.recv()
    if __name__ == "__main__":
        from multiprocessing import Pipe
        from multiprocessing.connection import wait as wait_for
        context = multiprocessing.get_context(sys.argv[1])
        ours, theirs = Pipe()
        process = context.Process(target=wait, args=(theirs,))
        try: process.sentinel
        except ValueError as error: print(error)
        process.start()
        print(wait_for([process.sentinel], 0.01))
        ours.send(None)
        print(wait_for([process.sentinel], 30) == [process.sentinel])
        process.join()
    """
    assert run(script, program, method) == (0, "process not started\n[]\nTrue\n", "")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_grandchild_does_not_hold_up_those_who_wait(script: Path, method: str) -> None:
    program = """
    def work(gate):
        if not os.fork():
            gate.recv(); os._exit(0)  # holds all that the child has open
        os._exit(3)
    if __name__ == "__main__":
        from multiprocessing import Pipe
        ours, theirs = Pipe()
        process = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(theirs,))
        process.start()
        process.join(); print(process.exitcode)  # without a limit: the grandchild waits for what comes next
        ours.send(None)
    """
    assert run(script, program, method) == (0, "3\n", "")


def test_the_core_is_told_who_was_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []

    class Core:
        def __getattr__(self, name: str) -> Any:
            return getattr(core, name)

        def process_reaped(self, pid: int, status: int) -> None:
            told.append((pid, status))
            core.process_reaped(pid, status)

    core = popen_fork._core
    monkeypatch.setattr(popen_fork, "_core", Core())
    expected = []
    for method in METHODS:
        for call, argument, status in ((os._exit, 3, 3 << 8), (signal.raise_signal, signal.SIGKILL, signal.SIGKILL)):
            process = ours.get_context(method).Process(target=call, args=(argument,))
            process.start()
            process.join(DEADLINE)
            assert process.exitcode is not None
            expected.append((process.pid, status))
    assert told == expected


# ---------------------------------------------------------------- the face


def test_the_same_public_names() -> None:
    assert sorted(ours.__all__) == sorted(standard.__all__)
    for name in ours.__all__:
        assert hasattr(ours, name), name
    assert (ours.SUBDEBUG, ours.SUBWARNING) == (5, 25)


def test_submodules_without_a_counterpart_are_the_standard_ones() -> None:
    import multiprocessing.dummy
    import multiprocessing.util

    import phalanx.multiprocessing.dummy

    from phalanx.multiprocessing import util

    assert util is multiprocessing.util
    assert phalanx.multiprocessing.dummy is multiprocessing.dummy
    with pytest.raises(ModuleNotFoundError, match=r"phalanx\.multiprocessing\.nothing"):
        import phalanx.multiprocessing.nothing
    with pytest.raises(AttributeError, match="nothing"):
        _ = phalanx.multiprocessing.nothing


def test_one_state_with_the_standard_module() -> None:
    assert ours.current_process() is standard.current_process()
    assert ours.parent_process() is standard.parent_process()
    before = standard.get_start_method(allow_none=True)
    try:
        ours.set_start_method("forkserver", force=True)
        assert standard.get_start_method() == ours.get_start_method() == "forkserver"
        standard.set_start_method("spawn", force=True)
        assert ours.get_start_method() == ours.get_context().get_start_method() == "spawn"
        with pytest.raises(RuntimeError, match="already been set"):
            ours.set_start_method("fork")
    finally:
        standard.set_start_method(before, force=True)


def test_contexts() -> None:
    for method in METHODS:
        context = ours.get_context(method)
        assert context.get_start_method() == method
        assert context.get_context() is context and context.get_context("fork") is ours.get_context("fork")
        assert type(context).__module__ == context.Process.__module__ == "phalanx.multiprocessing.context"
        assert isinstance(context, type(standard.get_context(method)))
        assert issubclass(context.Process, standard.get_context(method).Process)
        with pytest.raises(ValueError, match="cannot set start method"):
            context.set_start_method("spawn")
    with pytest.raises(ValueError, match="cannot find context"):
        ours.get_context("teleport")
    assert issubclass(ours.Process, standard.Process)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", METHODS)
def test_the_child_knows_who_it_is(script: Path, method: str, head: str) -> None:
    program = """
    class Child(multiprocessing.Process):
        def __init__(self, text): super().__init__(name="Ada", daemon=True); self.text = text
        def run(self):
            import multiprocessing as standard
            me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
            assert me is self is standard.current_process() and me.pid == os.getpid() and me.daemon
            assert multiprocessing.get_start_method() == standard.get_start_method()
            assert parent.name == "MainProcess" and parent.is_alive()
            print(self.text, me.name, multiprocessing.get_start_method(), flush=True)
    if __name__ == "__main__":
        multiprocessing.set_start_method(sys.argv[1])
        child = Child("hello"); child.start(); child.join()
        print(child.exit_reason)
    """
    assert run(script, program, method, head=head) == (0, f"hello Ada {method}\nended normally\n", "")


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(ours.active_children())
    monkeypatch.delenv("PHALANX_ORPHANS", raising=False)
    monkeypatch.delenv("PHALANX_SPAWN", raising=False)
    assert (_settings.orphan_rule(), _settings.spawn_way()) == ("end", "template")
    monkeypatch.setenv("PHALANX_ORPHANS", "adopt")
    with pytest.raises(ValueError, match="PHALANX_ORPHANS must be 'end' or 'keep', not 'adopt'"):
        ours.Process(target=int).start()
    monkeypatch.setenv("PHALANX_ORPHANS", "keep")
    monkeypatch.setenv("PHALANX_SPAWN", "slowly")
    with pytest.raises(ValueError, match="PHALANX_SPAWN must be 'template' or 'exec', not 'slowly'"):
        ours.get_context("spawn").Process(target=int).start()
    assert set(ours.active_children()) <= before


def test_adoption_is_undone_exactly() -> None:
    owners = (
        *(standard_process, standard_process.BaseProcess, standard_context, standard_context.Process),
        *(standard_context.ForkProcess, standard_context.SpawnProcess, standard_context.ForkServerProcess),
        sys.modules["multiprocessing.spawn"],
    )
    was = _start.adopted()
    _start.release()
    before = [dict(vars(owner)) for owner in owners]
    assert not hasattr(standard_process.BaseProcess, "exit_reason")
    try:
        _start.adopt()
        _start.adopt()
        assert _start.adopted() and [dict(vars(owner)) for owner in owners] != before
        process = standard.get_context("fork").Process(target=os._exit, args=(3,))
        process.start()
        process.join(DEADLINE)
        assert process.exit_reason == "exited with code 3"
    finally:
        _start.release()
    assert not _start.adopted() and [dict(vars(owner)) for owner in owners] == before
    if was:
        _start.adopt()


# ---------------------------------------------------------------- locks and fork


def test_a_lock_held_by_a_thread_that_fork_leaves_behind(script: Path) -> None:
    program = """
    lock, held, free = threading.Lock(), threading.Event(), threading.Event()
    def hold():
        with lock: held.set(); free.wait()
    def use():
        with lock: print("never")
    if __name__ == "__main__":
        thread = threading.Thread(target=hold); thread.start(); held.wait()
        child = multiprocessing.get_context("fork").Process(target=use); child.start(); child.join()
        print(child.exit_reason.partition(";")[0]); free.set(); thread.join()
    """
    code, out, err = run(script, program, head="standard")
    assert (code, out) == (0, "exited with code 1\n")
    assert "did not survive fork" in err and "phalanx.DeadlockError" in err


# ---------------------------------------------------------------- orphans

ORPHAN = """
def work(how, ready):
    def say(text): os.write(1, text.encode() + b"\\n")  # at once, or lines get mixed
    def tidy(*_): say("tidied up"); sys.exit()
    if how == "deaf": signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how == "tidy": signal.signal(signal.SIGTERM, tidy)
    ready.send(None); ready.close()
    if how == "busy":
        while True: pass
    if how in ("deaf", "tidy"):
        while True: signal.pause()
    multiprocessing.parent_process().join()
    say("noticed")
    if how == "kept":
        time.sleep(2.5)  # it is about this time
        say("outlived")
if __name__ == "__main__":
    from multiprocessing import Pipe
    how, method, end = sys.argv[1:]
    context = multiprocessing.get_context(method)
    for _ in range(2):
        ours, theirs = Pipe()
        process = context.Process(target=work, args=(how, theirs))
        process.outlive_parent = how == "kept" and "PHALANX_ORPHANS" not in os.environ
        process.start(); ours.recv(); ours.close(); theirs.close()
    if end == "kill": os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)
"""

# The output ends when the last of the processes does: `run` waits for that.


@pytest.mark.parametrize("end", ["kill", "exit"])
@pytest.mark.parametrize("method", METHODS)
def test_children_end_with_their_parent(script: Path, method: str, end: str) -> None:
    assert run(script, ORPHAN, "busy", method, end) == (-signal.SIGKILL if end == "kill" else 0, "", "")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("deaf", []),
        ("tidy", ["tidied up"] * 2),
        ("watchful", ["noticed"] * 2),
        ("kept", ["noticed"] * 2 + ["outlived"] * 2),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_orphans_have_a_moment(script: Path, method: str, how: str, words: list[str], head: str) -> None:
    _, out, err = run(script, ORPHAN, how, method, "kill", head=head)
    assert (sorted(out.splitlines()), err) == (words, "")


def test_orphans_are_kept_for_everybody(script: Path) -> None:
    out = run(script, ORPHAN, "kept", "fork", "kill", PHALANX_ORPHANS="keep").out
    assert sorted(out.split()) == ["noticed"] * 2 + ["outlived"] * 2


def test_a_sibling_that_goes_on_does_not_hide_the_death_of_the_parent(script: Path) -> None:
    program = """
    def last(ready): ready.send(None); os.close(1); os.close(2); signal.pause()
    def first(ready):
        ready.send(None)
        multiprocessing.parent_process().join()
        print("noticed", flush=True)
    if __name__ == "__main__":
        from multiprocessing import Pipe
        context = multiprocessing.get_context("fork")
        for work in (first, last):
            ours, theirs = Pipe()
            process = context.Process(target=work, args=(theirs,))
            process.outlive_parent = True
            process.start(); ours.recv()
        print(process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    out = run(script, program).out.splitlines()
    os.kill(int(out[0]), signal.SIGKILL)  # it is still there
    assert out[1:] == ["noticed"]


@pytest.mark.parametrize("method", METHODS)
def test_a_deadlock_names_what_the_thread_that_is_told_can_see(tmp_path: Path, method: str) -> None:
    program = """
        class Bank:
            def __init__(self, context):
                self.ledger = context.Lock()

        def ledger_first(bank, audit, gate):
            with bank.ledger:
                gate.wait()
                with audit: pass

        def audit_first(bank, audit, gate):
            with audit:
                gate.wait()
                with bank.ledger: pass

        def receive(end, other):
            end.recv()

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            bank, audit, gate = Bank(context), context.Lock(), context.Barrier(2)
            near, far = context.Pipe()
            pairs = [(ledger_first, (bank, audit, gate)), (audit_first, (bank, audit, gate))], [(receive, (near, far))]
            for pair in pairs:
                processes = [context.Process(target=target, args=args) for target, args in pair]
                for process in processes: process.start()
                for process in processes: process.join()
    """
    # The one that is told may be either process: both see both locks.
    outcome = run(tmp_path / "bank.py", program, method)
    assert "waits for audit  " in outcome.err and "waits for bank.ledger  " in outcome.err, outcome.err
    assert "waits to receive from end  " in outcome.err, outcome.err
