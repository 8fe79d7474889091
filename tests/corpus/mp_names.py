# shows: names, pids and parents of processes, and what active_children() tells
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^MainProcess: parent None$
# expect: ^Process-1: parent MainProcess$
# expect: ^clerk: parent MainProcess, child Process-2:1$
# expect: ^nobody left$
import multiprocessing
import os
import sys


def say():
    parent = multiprocessing.parent_process()
    print(f"{multiprocessing.current_process().name}: parent {parent and parent.name}", flush=True)


def say_more(name):
    process = multiprocessing.current_process()
    assert process.pid == process.ident == os.getpid() and process.name == name
    child = multiprocessing.Process(target=str)
    child.start()
    child.join()
    print(f"{name}: parent {multiprocessing.parent_process().name}, child {child.name}")


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    say()
    one = multiprocessing.Process(target=say)
    two = multiprocessing.Process(target=say_more, args=("clerk",), name="clerk")
    assert one.pid is None and one.exitcode is None and not one.is_alive()
    one.start()
    two.start()
    assert {one.pid, two.pid}.isdisjoint({None, os.getpid()})
    one.join()
    two.join()
    print("WRONG" if multiprocessing.active_children() else "nobody left")
