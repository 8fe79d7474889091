# shows: a process is killed while it holds an RLock twice
# verdict: error
# plain: hang
# methods: fork spawn forkserver
# expect: OwnerDied.*pid \d+
# expect: SIGKILL
# exit: 1
import multiprocessing
import os
import signal
import sys


def die_inside(lock):
    with lock, lock:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.RLock()
    worker = multiprocessing.Process(target=die_inside, args=(lock,))
    worker.start()
    worker.join()
    with lock:
        print("never reached")
