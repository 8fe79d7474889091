# shows: how a child ended: by its end, sys.exit with a number and a text, os._exit, an exception, a signal
# verdict: error
# plain: error
# methods: fork spawn forkserver
# expect: ^\[0, 0, 3, 1, 7, 1, -9, -15\]$
# expect: ^too late$
# expect: ^KeyError: 'missing'$
# exit: 0
import multiprocessing
import os
import signal
import sys


def finish(how):
    if how == "exit":
        sys.exit()
    if how == "exit 3":
        sys.exit(3)
    if how == "text":
        sys.exit("too late")
    if how == "_exit 7":
        os._exit(7)
    if how == "exception":
        {}["missing"]
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    ways = ["end", "exit", "exit 3", "text", "_exit 7", "exception", "SIGKILL", "SIGTERM"]
    children = [multiprocessing.Process(target=finish, args=(how,)) for how in ways]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print([child.exitcode for child in children])
