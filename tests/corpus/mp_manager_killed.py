# shows: a manager is killed; who uses one of its proxies is told that and why, not only that a pipe broke
# verdict: error
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: (?i)manager.*SIGKILL
# exit: 1
import multiprocessing
import os
import signal
import sys

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    manager = multiprocessing.Manager()
    shared = manager.dict(n=1)
    server = multiprocessing.active_children()[0]
    os.kill(server.pid, signal.SIGKILL)
    server.join()
    try:
        print("n is", shared["n"])
    except Exception as error:
        if "SIGKILL" in str(error):
            raise
        print(f"WRONG: {error!r}")
