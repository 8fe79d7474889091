# shows: a process takes a Lock by acquire() and is killed while another one waits for the lock
# verdict: error
# plain: hang
# methods: fork spawn forkserver
# expect: OwnerDied
# expect: SIGKILL
# expect: ^patient ended with 1$
# exit: 0
import multiprocessing
import os
import signal
import sys
import time


def die_inside(lock, taken):
    lock.acquire()
    taken.set()
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(lock):
    lock.acquire()
    lock.release()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.Lock()
    taken = multiprocessing.Event()
    worker = multiprocessing.Process(target=die_inside, args=(lock, taken))
    worker.start()
    taken.wait()
    patient = multiprocessing.Process(target=wait_for, args=(lock,))
    patient.start()
    worker.join()
    patient.join()
    print("patient ended with", patient.exitcode)
