# shows: a process is killed between reading and writing a Value, under its lock
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


def die_inside(counter):
    with counter.get_lock():
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    counter = multiprocessing.Value("i", 0)
    worker = multiprocessing.Process(target=die_inside, args=(counter,))
    worker.start()
    worker.join()
    counter.value += 1
