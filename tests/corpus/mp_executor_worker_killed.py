# shows: a worker of a ProcessPoolExecutor is killed; the future tells it
# verdict: error
# plain: error
# methods: fork spawn forkserver
# expect: BrokenProcessPool|WorkerDied
# exit: 1
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor


def die():
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with ProcessPoolExecutor(1) as executor:
        executor.submit(die).result()
