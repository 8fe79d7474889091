"""`phalanx.install()` and modules, processes and interpreters that come after it: whole programs with a deadline."""

import subprocess
import sys
import textwrap

import pytest

DEADLINE = 30


def run(code, *arguments, expect=0):
    """Run a script in a fresh interpreter, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def test_nothing_is_imported_just_to_patch_it():
    done = run("""
        import sys
        before = set(sys.modules)
        import phalanx
        phalanx.install()
        heavy = ("multiprocessing", "asyncio", "logging", "concurrent", "concurrent.futures", "typing", "inspect")
        print(sorted(name for name in set(sys.modules) - before if name in heavy))
    """)
    assert done.stdout == "[]\n"


def test_modules_imported_later_are_patched_as_they_come():
    done = run("""
        import phalanx
        phalanx.install()
        import queue, concurrent.futures as futures
        import phalanx.queue as ours
        import phalanx.concurrent.futures as our_futures
        from concurrent.futures import _base
        assert queue.Queue is ours.Queue and queue.ShutDown is ours.ShutDown and queue.SimpleQueue is ours.SimpleQueue
        assert queue.Empty is ours.Empty and queue.Full is ours.Full
        assert futures.Future is _base.Future is our_futures.Future
        assert futures.ThreadPoolExecutor is our_futures.ThreadPoolExecutor
        from concurrent.futures.thread import ThreadPoolExecutor
        assert ThreadPoolExecutor is our_futures.ThreadPoolExecutor
        from threading import Lock
        assert Lock is phalanx.threading.Lock
        phalanx.uninstall()
        assert queue.Queue is not ours.Queue and futures.Future is not our_futures.Future
        assert _base.Future is futures.Future
        assert futures.ThreadPoolExecutor is not our_futures.ThreadPoolExecutor
        print("ok")
    """)
    assert done.stdout == "ok\n"


@pytest.mark.parametrize(
    "imports",
    [
        "import queue, concurrent.futures, concurrent.futures.thread; import phalanx; phalanx.install()",
        "import phalanx.queue, phalanx.concurrent.futures; phalanx.install(); import queue, concurrent.futures",
        "import phalanx; phalanx.install(); import phalanx.queue, phalanx.concurrent.futures",
        "import phalanx; phalanx.install(); import phalanx.concurrent.futures; import concurrent.futures.thread",
        "import phalanx; phalanx.install(); import concurrent.futures.thread, queue",
        "import phalanx; phalanx.install(); from concurrent.futures import *; from queue import *",
        "import phalanx; phalanx.install(); phalanx.uninstall(); import queue, concurrent.futures; phalanx.install()",
    ],
)
def test_the_order_of_imports_does_not_matter(imports):
    done = run(f"""
        {imports}
        import queue, concurrent.futures, phalanx.queue, phalanx.concurrent.futures as ours
        from concurrent.futures import _base, thread
        assert queue.Queue is phalanx.queue.Queue
        assert concurrent.futures.Future is _base.Future is ours.Future
        assert concurrent.futures.ThreadPoolExecutor is thread.ThreadPoolExecutor is ours.ThreadPoolExecutor
        print("ok")
    """)
    assert done.stdout == "ok\n"


def test_a_module_that_came_later_looks_untouched():
    done = run("""
        import phalanx
        phalanx.install()
        import importlib, inspect, queue
        loader = type(queue.__loader__).__name__
        assert queue.__spec__.loader is queue.__loader__ and loader == "SourceFileLoader", loader
        assert "class PriorityQueue" in inspect.getsource(queue)
        assert importlib.reload(queue) is queue
        import phalanx.queue
        assert queue.Queue is phalanx.queue.Queue
        phalanx.uninstall()
        assert queue.Queue is not phalanx.queue.Queue
        print("ok")
    """)
    assert done.stdout == "ok\n"


def test_threads_that_import_while_others_install():
    done = run("""
        import sys, threading
        from importlib import import_module
        import phalanx
        start = threading.Barrier(4)
        errors = []
        def work(number):
            try:
                start.wait()
                if number == 0:
                    phalanx.install()
                elif number == 1:
                    import_module("queue")
                elif number == 2:
                    import_module("concurrent.futures")
                else:
                    import_module("phalanx.concurrent.futures")
                    import_module("phalanx.queue")
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
        import queue, concurrent.futures, phalanx.queue, phalanx.concurrent.futures
        print(errors, queue.Queue is phalanx.queue.Queue,
              concurrent.futures.Future is phalanx.concurrent.futures.Future)
    """)
    assert done.stdout == "[] True True\n"


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_work(how, tmp_path):
    script = tmp_path / "children.py"
    script.write_text(
        textwrap.dedent(f"""
        import phalanx
        phalanx.install()
        import multiprocessing, threading
        def work(pipe):
            phalanx.install()
            thread = threading.Thread(target=pipe.send, args=(threading.Lock is phalanx.threading.Lock,))
            thread.start()
            thread.join()
        if __name__ == "__main__":
            context = multiprocessing.get_context({how!r})
            ours, theirs = context.Pipe()
            child = context.Process(target=work, args=(theirs,))
            child.start()
            assert ours.poll(20)
            print(ours.recv())
            child.join()
            assert child.exitcode == 0
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_installed_by_a_pth_file_before_anything_else(tmp_path):
    (tmp_path / "phalanx_test.pth").write_text("import phalanx; phalanx.install()\n")
    done = run(
        f"""
        import site, sys
        before = "threading" in sys.modules
        site.addsitedir({str(tmp_path)!r})
        import threading
        print(before, type(threading.Lock()) is sys.modules["phalanx._core"].Lock)
        thread = threading.Thread(target=print, args=("thread",))
        thread.start()
        thread.join()
        """
    )
    assert done.stdout.splitlines()[0].endswith(" True")
    assert done.stdout.splitlines()[1] == "thread"
    assert done.stderr == ""


def test_a_subinterpreter_keeps_the_standard_library():
    done = run("""
        import phalanx, textwrap
        phalanx.install()
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        made = interpreters.create()
        execute = getattr(interpreters, "exec", interpreters.run_string)
        failure = execute(made, textwrap.dedent('''
            import phalanx, queue, threading
            phalanx.install()
            assert not phalanx.installed()
            assert threading.Event.__init__.__code__.co_filename == threading.__file__
            with threading.Lock():
                queue.Queue().put(1)
        '''))
        print(failure)
        interpreters.destroy(made)
    """)
    assert done.stdout == "None\n", done.stdout
