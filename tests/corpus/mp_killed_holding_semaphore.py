# shows: a process is killed while it has the only permit of a Semaphore
# verdict: error
# plain: hang
# methods: fork spawn forkserver
# expect: OwnerDied
# expect: SIGKILL
# exit: 1
import multiprocessing
import os
import signal
import sys


def die_inside(semaphore):
    with semaphore:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    semaphore = multiprocessing.Semaphore(1)
    worker = multiprocessing.Process(target=die_inside, args=(semaphore,))
    worker.start()
    worker.join()
    with semaphore:
        print("never reached")
