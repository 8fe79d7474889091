"""`phalanx run X` is `python X`: the same output, the same errors, the same way to end, compared byte by byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

DEADLINE = 30
PYTHON = [sys.executable]
PHALANX = [sys.executable, "-m", "phalanx", "run"]

# What a program can see of its surroundings, in the order in which the interpreter put it there. Loaders are shown by
# their type, since an address differs from run to run.
LOOK = """\
import sys
for name, value in list(globals().items()):
    print(name, type(value) if name == "__loader__" else value if name != "__spec__" else value and value.name)
print(sys.argv, sys.path[:2], __name__, sys.modules["__main__"].__dict__ is globals())
"""

FILES: dict[str, str | bytes] = {
    "look.py": LOOK,
    "inner/.keep": "",
    "app/__main__.py": LOOK,
    "app/helper.py": "",
    "empty_dir/.keep": "",
    "pkg/__init__.py": "import sys\nprint('imported', __name__, sys.argv)\n",
    "pkg/__main__.py": LOOK,
    "pkg/sub.py": "from . import sibling\n" + LOOK,
    "pkg/sibling.py": "",
    "no_main/__init__.py": "",
    "broken_pkg/__init__.py": "import surely_not_there\n",
    "raises.py": "def f(n):\n    return 1 // n\n\nprint('before')\nf(0)\n",
    "in_import.py": "import raises\n",
    "chained.py": """\
def inner():
    raise KeyError("inner")

def outer():
    try:
        inner()
    except KeyError as error:
        raise ValueError("outer") from error

try:
    outer()
except ValueError:
    raise RuntimeError("while handling")
""",
    "group.py": "raise ExceptionGroup('both', [ValueError(1), TypeError(2)])\n",
    "noted.py": "error = ValueError('x')\nerror.add_note('a note')\nraise error\n",
    "reraised.py": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    kept = e\nraise kept\n",
    "recursion.py": "def f():\n    f()\ntry:\n    f()\nexcept RecursionError as e:\n    print(e)\n",
    "syntax.py": "def f(:\n    pass\n",
    "indent.py": "if True:\npass\n",
    "unclosed.py": "x = (1,\n",
    "outside.py": "return 1\n",
    "warned.py": "x = 1\nassert (x, 'always true')\n",
    "nulls.py": b"x = 1\ny = 2\0\n",
    "not_utf8.py": b"x = 1\ny = '\xff'\n",
    "not_utf8_comment.py": b"# \xff\nprint(1)\n",
    "latin.py": b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n",
    "no_such_encoding.py": b"# -*- coding: klingon -*-\nprint(1)\n",
    "not_ascii.py": b"# -*- coding: ascii -*-\nx = '\xff'\n",
    "bom_and_latin.py": b"\xef\xbb\xbf# -*- coding: latin-1 -*-\n",
    "future.py": "print(compile('x: int = undefined_name', '', 'exec').co_flags)\nx: int(1 / 1) = 1\n",
    "stdin.py": "import sys\nprint(input(), sys.stdin.readlines())\n",
    "exit.py": "import sys\nprint('before')\nsys.exit(eval(sys.argv[1]))\n",
    "exit_subclass.py": "class Bye(SystemExit):\n    pass\nraise Bye(4)\n",
    "exit_chained.py": "try:\n    1 / 0\nfinally:\n    raise SystemExit('a reason')\n",
    "os_exit.py": "import os, sys\nsys.stdout.write('lost')\nos._exit(9)\n",
    "abort.py": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()\n",
    "interrupt.py": """\
import atexit, os, signal, threading, time
atexit.register(print, "atexit", flush=True)
gate = threading.Event()
threading.Thread(target=lambda: (gate.wait(10), print("a thread ends"))).start()
print("before")
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
finally:
    gate.set()
""",
    "interrupt_caught.py": "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt:\n    print('caught')\n",
    "interrupt_subclass.py": "class Mine(KeyboardInterrupt):\n    pass\nraise Mine('by hand')\n",
    "hook.py": """\
import sys, traceback

def hook(kind, error, trace):
    print("hook", kind, error, trace is error.__traceback__, sys.exc_info(), sys.excepthook is hook)
    print(sys.last_value is error, sys.last_traceback is trace)
    print([frame.name for frame in traceback.extract_tb(trace)])

sys.excepthook = hook

def f():
    raise ValueError("x")

f()
""",
    "hook_fails.py": "import sys\ndef hook(*_):\n    [].x\nsys.excepthook = hook\nraise ValueError('x')\n",
    "hook_fails_on_syntax.py": "import sys\nsys.excepthook = lambda *_: [].x\ncompile('(', 'a', 'exec')\n",
    "hook_exits.py": "import sys\nsys.excepthook = lambda *_: sys.exit(7)\nraise ValueError('x')\n",
    "hook_interrupted.py": "import sys\nsys.excepthook = None\nraise KeyboardInterrupt\n",
    "hook_missing.py": "import sys\ndel sys.excepthook\nraise ValueError('x')\n",
    "hook_at_exit.py": """\
import atexit, sys
atexit.register(lambda: print(sys.excepthook is sys.__excepthook__, sys.last_value))
raise ValueError("x")
""",
    "stderr_gone.py": "import sys\nsys.stderr = None\nraise ValueError('x')\n",
    "order.py": """\
import atexit, threading, time
atexit.register(print, "atexit 1")
atexit.register(print, "atexit 2")

def late():
    threading.main_thread().join()
    print("non-daemon thread", still_here, threading.current_thread().name)

def for_ever():
    threading.Event().wait()

class Last:
    def __del__(self):
        print("last object gone", self.name)

still_here = "globals alive"
last = Last()
last.name = "last"
threading.Thread(target=for_ever, daemon=True).start()
threading.Thread(target=late, name="late").start()
print("end of main", threading.main_thread() is threading.current_thread(), threading.main_thread().name)
""",
    "thread_raises.py": "import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()\nprint(1)\n",
    "unraisable.py": """\
import sys, traceback

class A:
    def __del__(self):
        1 / 0

sys.unraisablehook = lambda it: print(it.exc_value, traceback.extract_tb(it.exc_traceback))
A()
print("goes on")
""",
    "spawn.py": """\
import multiprocessing

class Point:
    def __init__(self, x):
        self.x = x

def double(point):
    return Point(2 * point.x)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        [answer] = pool.map(double, [Point(21)])
    print(answer.x, type(answer) is Point, Point.__module__)
""",
    "pickled.py": """\
import pickle

class Point:
    pass

print(type(pickle.loads(pickle.dumps(Point()))) is Point, pickle.dumps(Point()).count(b"__main__"))
""",
    "introspect.py": "import inspect, __main__\ndef f():\n    pass\nprint(inspect.getsource(f), __main__.f is f)\n",
    "flood.py": "for _ in range(100_000):\n    print('x' * 100)\n",
    "one_line.py": "print('x')\n",
    "mixed.py": "import sys\nsys.stdout.write('out\\n')\nsys.stderr.write('err\\n')\n1 / 0\n",
    "mixed_exit.py": "import sys\nsys.stdout.write('out\\n')\nsys.exit('a reason')\n",
    "shadow/queue.py": "class Queue:\n    mine = True\n",
    "shadow/main.py": "import queue\nprint(queue.Queue.mine, sorted(vars(queue.Queue)), sorted(vars(queue)))\n",
    "flags.py": "import sys\nprint(__debug__, sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions, sys.path[0])\n",
}


class Outcome(NamedTuple):
    stdout: str
    stderr: str
    code: int


def environment() -> dict[str, str]:
    """Ours, without what would change how an interpreter starts."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PHALANX"))}


def outcome(command: list[str], cwd: Path, stdin: str = "", merged: bool = False) -> Outcome:
    """Runs a command to its end; with `merged`, both streams go into one pipe, which shows their order."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        timeout=DEADLINE,
        text=True,
        errors="backslashreplace",
    )
    return Outcome(done.stdout, done.stderr or "", done.returncode)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all the programs."""
    root = tmp_path_factory.mktemp("programs")
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with zipfile.ZipFile(root / "app.zip", "w") as archive:
        archive.writestr("__main__.py", LOOK)
    with zipfile.ZipFile(root / "raises.zip", "w") as archive:
        archive.writestr("__main__.py", "1 / 0\n")
    (root / "inner/link.py").symlink_to("../look.py")
    (root / "loop.py").symlink_to("loop.py")
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", "look.py", "raises.py"], cwd=root, check=True)
    (root / "look.pyc").rename(root / "compiled_look")
    (root / "raises.pyc").rename(root / "compiled_raises.pyc")
    (root / "broken.pyc").write_bytes(b"not compiled at all")
    return root


INVOCATIONS = [
    # What the program sees: argv, path, __main__, however it is named.
    "look.py", "look.py a -m b --deadlock off -- -c", "./look.py", "inner/../look.py", "inner/link.py", "-- look.py x",
    "app x", "app/", "./app", "app.zip x", "empty_dir", "-m look a", "-m pkg a --x", "-m pkg.sub", "-mlook",
    "-m pkg.__main__", "compiled_look x", "introspect.py", "-m introspect", "pickled.py", "future.py",
    # What cannot run.
    "missing.py", "look.py/x", "loop.py", "missing_dir/", "-m missing", "-m pkg.missing", "-m no_main", "-m .x",
    "-m look.py", "-m broken_pkg", "-m broken_pkg.sub", "-m os.path.x", "-m empty_dir", "broken.pyc",
    "syntax.py", "-m syntax", "indent.py", "unclosed.py", "outside.py", "warned.py", "nulls.py", "not_utf8.py",
    "not_utf8_comment.py", "latin.py", "no_such_encoding.py", "not_ascii.py", "bom_and_latin.py",
    # Exceptions.
    "raises.py", "-m raises", "raises.zip", "compiled_raises.pyc", "in_import.py", "chained.py", "-m chained",
    "group.py", "noted.py", "reraised.py", "recursion.py", "thread_raises.py", "unraisable.py", "hook.py", "-m hook",
    "hook_fails.py", "hook_fails_on_syntax.py", "hook_exits.py", "hook_interrupted.py", "hook_missing.py",
    "hook_at_exit.py", "stderr_gone.py",
    # The end.
    "exit.py None", "exit.py 0", "exit.py 3", "exit.py 256", "exit.py -1", "exit.py 'text'", "exit.py []",
    "exit.py 2.5", "-m exit 5", "exit_subclass.py", "exit_chained.py", "os_exit.py", "abort.py", "interrupt.py",
    "-m interrupt", "interrupt_caught.py", "interrupt_subclass.py", "order.py", "-m order", "spawn.py", "-m spawn",
]  # fmt: skip

COMMANDS = {
    "look": LOOK,
    "empty": "",
    "raises": "def f():\n    1 / 0\nf()",
    "syntax": "x = (",
    "exit": "import sys; sys.exit('bye')",
    "interrupt": "raise KeyboardInterrupt",
    "spawn": "import multiprocessing as m\nwith m.get_context('spawn').Pool(1) as p:\n    print(p.map(abs, [-1]))",
}


@pytest.mark.parametrize("words", INVOCATIONS)
def test_files_and_modules(tree: Path, words: str) -> None:
    arguments = words.split()
    assert outcome(PHALANX + arguments, tree) == outcome(PYTHON + arguments, tree)


@pytest.mark.parametrize("name", COMMANDS)
def test_command(tree: Path, name: str) -> None:
    command = COMMANDS[name]
    for arguments in (["-c", command, "a", "-b"], ["-c" + command, "a"] if command else ["-c", ""]):
        assert outcome(PHALANX + arguments, tree) == outcome(PYTHON + arguments, tree)


# But "spawn": the children of such a program look for the file `<stdin>`, and it hangs in both.
@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"spawn"}))
@pytest.mark.parametrize("arguments", [[], ["-"], ["-", "a", "-b"]], ids=["nothing", "dash", "dash and more"])
def test_program_on_stdin(tree: Path, name: str, arguments: list[str]) -> None:
    source = COMMANDS[name] + "\n"
    assert outcome(PHALANX + arguments, tree, source) == outcome(PYTHON + arguments, tree, source)


def test_module_named_as_one_we_patch(tree: Path) -> None:
    assert outcome([*PHALANX, "shadow/main.py"], tree) == outcome([*PYTHON, "shadow/main.py"], tree)


@pytest.mark.parametrize("words", ["stdin.py", "-m stdin", "stdin.py -"])
def test_stdin_is_the_programs(tree: Path, words: str) -> None:
    ours = outcome(PHALANX + words.split(), tree, "one\ntwo\nthree\n")
    assert ours == outcome(PYTHON + words.split(), tree, "one\ntwo\nthree\n")
    assert ours.stdout == "one ['two\\n', 'three\\n']\n"


@pytest.mark.parametrize(
    "words",
    ["mixed.py", "-m mixed", "mixed_exit.py", "-m mixed_exit", "order.py", "-m order", "interrupt.py", "hook.py"],
)
def test_streams_are_flushed_at_the_same_moments(tree: Path, words: str) -> None:
    ours = outcome(PHALANX + words.split(), tree, merged=True)
    assert ours == outcome(PYTHON + words.split(), tree, merged=True)


@pytest.mark.parametrize("options", ["-O", "-OO", "-X dev", "-W error", "-P", "-I", "-u", "-B"])
@pytest.mark.parametrize("words", ["flags.py", "app"])
def test_options_of_the_interpreter_go_before(tree: Path, options: str, words: str) -> None:
    before = [sys.executable, *options.split()]
    assert outcome([*before, "-m", "phalanx", "run", words], tree) == outcome([*before, words], tree)


@pytest.mark.parametrize(
    "words", ["look.py x", "app", "-m pkg", "raises.py", "interrupt.py", "missing.py", "exit.py 3"]
)
def test_console_script(tree: Path, words: str) -> None:
    script = Path(sys.executable).with_name("phalanx")
    if not script.exists():
        pytest.skip("phalanx is on the path, but not installed")
    assert outcome([str(script), "run", *words.split()], tree) == outcome(PYTHON + words.split(), tree)


@pytest.mark.parametrize("program", ["flood.py", "one_line.py"])
def test_reader_of_stdout_is_gone(tree: Path, program: str) -> None:
    ends = []
    for command in (PYTHON, PHALANX):
        reader, writer = os.pipe()
        os.close(reader)
        with open(writer, "wb") as stdout:
            done = subprocess.run(
                [*command, program],
                cwd=tree,
                env=environment(),
                stdout=stdout,
                stderr=subprocess.PIPE,
                timeout=DEADLINE,
            )
        ends.append((done.stderr, done.returncode))
    assert ends[0] == ends[1]
    assert b"BrokenPipeError" in ends[0][0]


def test_interrupt_ends_by_the_signal(tree: Path) -> None:
    """The parity above would also hold if both ended otherwise: a shell looks at the signal."""
    assert outcome([*PHALANX, "interrupt.py"], tree).code == -signal.SIGINT


def test_script_read_from_a_pipe(tree: Path) -> None:
    found = []
    for command in (PYTHON, PHALANX):
        shell = '"$@" <(echo "import sys; print(sys.path[0], 1)"; echo 1/0) 2>&1 | sed "s:/fd/[0-9]*:/fd/N:"'
        found.append(outcome(["bash", "-c", shell, "bash", *command], tree))
    assert found[0] == found[1]


def test_working_directory_is_gone(tree: Path, tmp_path: Path) -> None:
    found = []
    for number, command in enumerate((PYTHON, PHALANX)):
        doomed = tmp_path / str(number)
        doomed.mkdir()
        shell = f'rmdir "$PWD"; "$@" {tree}/flags.py; "$@" -c "import sys; print(sys.path[0])"'
        found.append(outcome(["bash", "-c", shell, "bash", *command], doomed))
    assert found[0] == found[1]


def test_prompt_at_a_terminal(tree: Path) -> None:
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        PHALANX,
        cwd=tree,
        env=environment() | {"PYTHON_BASIC_REPL": "1", "TERM": "dumb"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    os.write(
        leader, b"import os, sys\nprint(6 * 7, 'PYTHONINSPECT' in os.environ, sys.path[0] == '', sys.argv)\nexit(5)\n"
    )
    seen = b""
    try:
        while chunk := os.read(leader, 4096):
            seen += chunk
    except OSError:
        pass  # how a terminal says that the other side has closed it
    finally:
        os.close(leader)
        code = child.wait(DEADLINE)
    assert b"42 False True ['']" in seen
    assert code == 5
