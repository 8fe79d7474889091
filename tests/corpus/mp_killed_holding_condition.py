# shows: a process is killed inside `with condition`
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


def die_inside(condition):
    with condition:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    condition = multiprocessing.Condition()
    worker = multiprocessing.Process(target=die_inside, args=(condition,))
    worker.start()
    worker.join()
    with condition:
        condition.notify()
