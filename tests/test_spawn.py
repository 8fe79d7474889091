"""`spawn` from a template: nobody can tell a copy from an interpreter that was started for the occasion."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from tests.test_processes import DEADLINE, HEADS, METHODS, Outcome, run, script

__all__ = ["script"]

# What a child can see of itself. `way` says how it was made.
LOOK = """
def look():
    import gc, json, resource, stat
    file = lambda fd: "closed" if not opened(fd) else os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]
    def opened(fd):
        try: os.fstat(fd)
        except OSError: return False
        return True
    def stream(name):
        it = getattr(sys, name)
        return None if it is None else [
            it.name, it.mode, it.encoding, it.errors, it.line_buffering, it.write_through, it.newlines, it.fileno(),
            it.closed, it is getattr(sys, f"__{name}__"), type(it.buffer).__name__, it.isatty(), it.buffer.name]
    with open("/proc/self/status") as file_: status = dict(line.split(":", 1) for line in file_)
    with open("/proc/self/cmdline") as file_: command = file_.read()
    main = sys.modules["__main__"]
    return {
        "way": "template" if "serve(" in command else "exec",
        "parent": os.getppid() == multiprocessing.parent_process().pid,
        "argv": sys.argv, "orig_argv": [x for x in sys.orig_argv if "spawn_main" not in x], "flags": repr(sys.flags),
        "path": sys.path, "cwd": os.getcwd(), "umask": status["Umask"], "environ": dict(os.environ),
        "streams": [stream(name) for name in ("stdout", "stderr")], "stdin": type(sys.stdin).__name__,
        "fds": [file(fd) for fd in (0, 1, 2)], "open": sum(map(opened, range(200))),
        "inheritable": [fd for fd in range(200) if opened(fd) and os.get_inheritable(fd)],
        "signals": [str(signal.getsignal(s)) for s in sorted(signal.valid_signals())],
        "blocked": status["SigBlk"], "ignored": status["SigIgn"], "caught": status["SigCgt"], "nice": os.nice(0),
        "group": [get(0) == get(os.getppid()) for get in (os.getpgid, os.getsid)],
        "ids": [status["Uid"], status["Gid"]],
        "limits": [resource.getrlimit(x) for n, x in sorted(vars(resource).items()) if n.startswith("RLIMIT_")],
        "affinity": sorted(os.sched_getaffinity(0)), "threads": len(os.listdir("/proc/self/task")),
        "modules": sorted(x for x in sys.modules if x.partition(".")[0] not in ("phalanx", "gc")),
        "main": [main.__name__, main.__spec__ is None, getattr(main, "__file__", None)],
        "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.gettrace()],
        "warnings": [str(filter_) for filter_ in __import__("warnings").filters],
        "gc": [gc.isenabled(), gc.get_threshold(), gc.garbage], "recursion": sys.getrecursionlimit(),
        "name": multiprocessing.current_process().name, "start": multiprocessing.get_start_method(),
    }
def child(connection):
    connection.send(look())
    connection.close()
def spawned():
    from multiprocessing import Pipe
    ours, theirs = Pipe()
    process = multiprocessing.get_context("spawn").Process(target=child, args=(theirs,), name="Ada")
    process.start(); theirs.close(); seen = ours.recv(); process.join()
    assert process.exitcode == 0 and seen["parent"]
    return seen
def by(way):
    os.environ["PHALANX_SPAWN"] = way
    seen = spawned()
    del seen["environ"]["PHALANX_SPAWN"]
    return seen
def differences():
    one, other = by("exec"), by("template")
    assert one.pop("way") == "exec"
    other.pop("way")
    return {key: (one[key], other[key]) for key in one if one[key] != other[key]}
"""


@pytest.mark.parametrize("head", HEADS)
def test_a_copy_is_like_an_original(script: Path, head: str) -> None:
    program = """
    if __name__ == "__main__":
        by("template")
        print(by("template")["way"], differences())
    """
    assert run(script, LOOK + program.replace("\n    ", "\n"), "an argument", head=head) == (0, "template {}\n", "")


CHANGES = {
    "an environment variable": 'os.environ["NEW"] = "\\udcff"; os.environ["TERM"] = "other"; del os.environ["PATH"]',
    "one that the interpreter reads": 'os.environ["PYTHONHASHSEED"] = "7"',
    "the umask": "os.umask(0o027)",
    "the working directory": 'os.chdir("/usr")',
    "a signal ignored": "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "a signal handled": "signal.signal(signal.SIGTERM, print)",
    "ctrl-c ignored": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "broken pipes not ignored": "signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
    "a signal blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])",
    "the priority": "os.nice(3)",
    "a limit": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "the session": "os.fork() and os._exit(0); os.setsid()",
    "the affinity": "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])",
    "standard output": 'os.dup2(os.open("/dev/null", os.O_RDWR), 2)',
    "no standard input": "os.close(0)",
    "many descriptors": "pipes = [os.pipe() for _ in range(20)]",
    "sys.path": 'sys.path.insert(0, "/nowhere")',
    "sys.argv": 'sys.argv.append("more")',
    "a warning filter": 'import warnings; sys.warnoptions.append("error::UserWarning")',
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_after_the_template_has_started(script: Path, change: str) -> None:
    program = f"""
    if __name__ == "__main__":
        before = by("template")
        {CHANGES[change]}
        first = by("template")
        print(before["way"], differences(), by("template")["way"])
    """
    code, out, err = run(script, LOOK + program.replace("\n    ", "\n"))
    assert (code, err) == (0, "")
    assert out == f"template {{}} {'exec' if change == 'no standard input' else 'template'}\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up privileges")
def test_privileges_given_up_do_not_come_back(script: Path) -> None:
    program = """
    def whoami(connection): connection.send((os.getresgid(), os.getgroups()))
    if __name__ == "__main__":
        from multiprocessing import Pipe
        from phalanx.multiprocessing import _template
        def ask():
            ours, theirs = Pipe()
            process = multiprocessing.get_context("spawn").Process(target=whoami, args=(theirs,))
            process.start(); print(ours.recv()); process.join()
        ask()
        os.setgroups([]); os.setresgid(65534, 65534, 65534)
        kept, facts = _template._template, _template._facts
        _template._facts = lambda command: (kept.facts, facts(command)[1])  # what somebody in here could do
        ask()
        print(_template._template is None)
    """
    code, out, err = run(script, program)
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == ["((65534, 65534, 65534), [])", "True"]


# ---------------------------------------------------------------- when there is none

WITHOUT = {
    "the environment says so": 'os.environ["PHALANX_SPAWN"] = "exec"',
    "another executable": 'multiprocessing.set_executable(os.path.join(os.path.dirname(sys.argv[0]), "other"))',
    "another command": "from multiprocessing import spawn; usual = spawn.get_command_line;"
    'spawn.get_command_line = lambda **k: [*usual(**k)[:1], "-q", *usual(**k)[1:]]',
    "a debugger": "import _posixsubprocess as p; usual = p.fork_exec; p.fork_exec = lambda *a: usual(*a)",
    "coverage of children": 'os.environ["COVERAGE_PROCESS_START"] = "/dev/null"',
}


@pytest.mark.parametrize("why", WITHOUT)
def test_without_a_template(script: Path, why: str) -> None:
    other = script.with_name("other")
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    program = f"""
    if __name__ == "__main__":
        ways = [spawned()["way"]]
        {WITHOUT[why]}
        print(*ways, spawned()["way"], spawned()["way"])
    """
    assert run(script, LOOK + program.replace("\n    ", "\n")) == (0, "template exec exec\n", "")


def test_a_facility_that_starts_with_the_interpreter(script: Path) -> None:
    # Something that a site hook leaves for the end of the process belongs there once in each child.
    site = script.with_name("site")
    site.mkdir()
    (site / "sitecustomize.py").write_text("import atexit, os\natexit.register(lambda: os.write(1, b'bye '))\n")
    program = """
    if __name__ == "__main__":
        print(spawned()["way"], spawned()["way"], flush=True)
    """
    out = run(script, LOOK + program.replace("\n    ", "\n"), PYTHONPATH=str(site)).out
    assert out == "bye bye exec exec\nbye bye "  # the resource tracker is one more


def test_the_descriptors_of_the_template_are_somebody_elses(script: Path) -> None:
    program = """
    if __name__ == "__main__":
        from phalanx.multiprocessing import _template
        ways = [spawned()["way"]]
        old = _template._template
        os.dup2(1, old.socket.fileno())
        print(*ways, spawned()["way"], _template._template is old, os.fstat(old.pid and old.marks[0][0]) == os.fstat(1))
    """
    assert run(script, LOOK + program.replace("\n    ", "\n")) == (0, "template template False True\n", "")


def test_the_template_was_killed(script: Path) -> None:
    program = """
    if __name__ == "__main__":
        from phalanx.multiprocessing import _template
        ways = [spawned()["way"]]
        os.kill(_template._template.pid, signal.SIGKILL)
        os.waitid(os.P_PID, _template._template.pid, os.WEXITED | os.WNOWAIT)
        print(*ways, spawned()["way"], spawned()["way"])
    """
    assert run(script, LOOK + program.replace("\n    ", "\n")) == (0, "template exec template\n", "")


def test_a_forked_child_has_a_template_of_its_own(script: Path) -> None:
    program = """
    def nested(): print(spawned()["way"], spawned()["way"], flush=True)
    if __name__ == "__main__":
        nested()
        pid = os.fork()
        if not pid:
            nested(); sys.stdout.flush(); os._exit(0)
        os.waitpid(pid, 0)
        for method in ("fork", "spawn", "forkserver"):
            process = multiprocessing.get_context(method).Process(target=nested)
            process.start(); process.join()
        nested()
    """
    outcome = run(script, LOOK + program.replace("\n    ", "\n"))
    assert outcome == (0, "template template\n" * 6, "")


def gone(pid: int) -> bool:
    """Whether a process ends before the deadline."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                if file.read().rpartition(b")")[2].split()[0] == b"Z":
                    return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("end", ["return", "os._exit(0)", "os.kill(os.getpid(), 9)", "os.fork() or os._exit(0)"])
def test_nothing_is_left_when_the_program_ends(script: Path, end: str) -> None:
    program = f"""
    if __name__ == "__main__":
        from phalanx.multiprocessing import _template
        multiprocessing.get_context("spawn").Process(target=int).start()
        for child in multiprocessing.active_children(): child.join()
        print(_template._template.pid, flush=True)
        {"" if end == "return" else end}
    """
    out = run(script, program).out
    if end == "return":
        assert not os.path.exists(f"/proc/{int(out)}")
    assert gone(int(out))


# ---------------------------------------------------------------- what a child begins with


def test_many_threads_spawn_at_once(script: Path) -> None:
    program = """
    def end(code): sys.exit(code)
    if __name__ == "__main__":
        context, codes = multiprocessing.get_context("spawn"), {}
        def one(k):
            process = context.Process(target=end, args=(k,))
            process.start(); process.join(); codes[k] = process.exitcode
        threads = [threading.Thread(target=one, args=(k,)) for k in range(12)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(all(codes[k] == k for k in range(12)))
    """
    assert run(script, program) == (0, "True\n", "")


def test_modules_of_the_program_win(script: Path) -> None:
    # `runpy` needs `pkgutil`, so it is there before the child knows the program's path.
    standard = "import os; exec(open(os.path.join(os.path.dirname(os.__file__), 'pkgutil.py')).read())\n"
    script.with_name("pkgutil.py").write_text(standard + "MINE = True\n")
    program = """
    def look():
        import pkgutil
        print(pkgutil.MINE, flush=True)
    if __name__ == "__main__":
        process = multiprocessing.get_context(sys.argv[1]).Process(target=look)
        process.start(); process.join()
    """
    for method in ("spawn", "forkserver"):
        assert run(script, program, method) == (0, "True\n", "")


INSTALLED = """
class Early:
    def __init__(self): self.level = 2
    def __reduce__(self): return check, (self.level,)
def check(level):
    # Unpickled before anything of the process runs.
    import phalanx, phalanx._core, threading
    from phalanx.multiprocessing import _start
    return phalanx.installed(), _start.adopted(), phalanx._core.deadlock_mode(), type(threading.Lock()).__module__
def work(method, early, level):
    os.write(1, f"{early} {multiprocessing.Process.exit_reason is not None}\\n".encode())
    if level: start(method, level - 1)
def start(method, level):
    process = multiprocessing.get_context(method).Process(target=work, args=(method, Early(), level))
    process.start(); process.join()
    assert process.exitcode == 0
if __name__ == "__main__":
    phalanx.install(deadlock="report")
    start(sys.argv[1], 1)
    start(sys.argv[1], 0)
"""


@pytest.mark.parametrize("way", ["template", "exec"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_of_an_installed_parent_are_installed(script: Path, method: str, way: str) -> None:
    code, out, err = run(script, INSTALLED, method, head="standard", PHALANX_SPAWN=way)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 3 and len(set(lines)) == 1
    assert lines[0].startswith("(True, True, 'report', ")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_of_a_parent_that_took_it_back(script: Path, method: str) -> None:
    program = """
    def look(): print(phalanx.installed(), hasattr(multiprocessing.Process, "exit_reason"), flush=True)
    if __name__ == "__main__":
        def ask():
            process = multiprocessing.get_context(sys.argv[1]).Process(target=look)
            process.start(); process.join()
        ask(); phalanx.uninstall(); ask()
    """
    head = "import phalanx, multiprocessing\nif __name__ == '__main__': phalanx.install()\n"
    assert run(script, program, method, head=head) == (0, "True True\nFalse False\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_phalanx_is_found_where_the_parent_found_it(script: Path, method: str) -> None:
    import phalanx

    home = str(Path(phalanx.__file__).parent.parent)
    program = f"""
    import sys
    sys.path.append({home!r})
    from phalanx import multiprocessing
    def look(): print(multiprocessing.current_process().name, flush=True)
    if __name__ == "__main__":
        for _ in range(2):
            process = multiprocessing.get_context({method!r}).Process(target=look, name="Ada")
            process.start(); process.join(); print(process.exit_reason, flush=True)
    """
    script.write_text("\n".join(line[4:] for line in program.splitlines()))
    import subprocess

    done = subprocess.run(
        [os.path.join(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}"), "-I", str(script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Ada\nended normally\n" * 2, "")


# ---------------------------------------------------------------- a main module without a guard


def unguarded(outcome: Outcome) -> str:
    assert outcome.code == 1 and "hello" not in outcome.out
    last = outcome.err[outcome.err.rindex("StartError: ") :]
    assert '    if __name__ == "__main__":' in last
    return last


UNGUARDED = """
context = multiprocessing.get_context(sys.argv[1])
worker = context.Process(target=print, args=("hello",))
worker.start()
try: worker.join()
finally: print(worker.exit_reason)
print("no hello")
"""


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("way", ["template", "exec"])
def test_spawn_without_a_guard(script: Path, way: str, head: str) -> None:
    outcome = run(script, UNGUARDED, "spawn", head=head, PHALANX_SPAWN=way)
    words = unguarded(outcome)
    place = f"{script}:{script.read_text().splitlines().index('worker.start()') + 1}"
    assert f"{place}  worker.start()" in words and 'process "SpawnProcess-1" ended before it could begin' in words
    assert outcome.out == f"ended before it could begin: importing the main module starts processes ({place})\n"
    assert outcome.err.count("An attempt has been made to start a new process") == 1


@pytest.mark.parametrize("head", HEADS)
def test_forkserver_without_a_guard(script: Path, head: str) -> None:
    unguarded(run(script, UNGUARDED.replace("try: ", "").replace("finally: ", ""), "forkserver", head=head))


def test_choosing_the_start_method_without_a_guard(script: Path) -> None:
    program = """
    multiprocessing.set_start_method("spawn")
    worker = multiprocessing.Process(target=print, args=("hello",)); worker.start(); worker.join()
    """
    words = unguarded(run(script, program))
    assert f'{script}:4  multiprocessing.set_start_method("spawn")' in words


def test_it_is_said_once_and_not_to_those_who_keep_processes(script: Path) -> None:
    program = """
    worker = multiprocessing.get_context("spawn").Process(target=print); worker.start()
    try: worker.join()
    except phalanx.errors.StartError as error:
        import pickle
        copy = pickle.loads(pickle.dumps(error))
        print(type(error).__mro__[1:3], copy.args == error.args, vars(copy) == vars(error))
    worker.join(); print(worker.exitcode)
    multiprocessing.get_context("spawn").Process(target=print).start()  # joined at exit
    """
    code, out, err = run(script, "import phalanx.errors\n" + program.replace("\n    ", "\n"))
    assert code == 0
    assert out.splitlines() == [
        "(<class 'phalanx.PhalanxError'>, <class 'RuntimeError'>) True True",
        "1",
    ]
    assert "StartError" not in err


def test_a_main_module_that_fails_otherwise_is_no_such_case(script: Path) -> None:
    program = """
    if __name__ != "__main__": raise RuntimeError("on purpose")
    worker = multiprocessing.get_context("spawn").Process(target=print); worker.start(); worker.join()
    print(worker.exit_reason.partition(";")[0])
    """
    code, out, err = run(script, program)
    assert (code, out) == (0, "exited with code 1\n")
    assert "RuntimeError: on purpose" in err and "StartError" not in err
