# shows: a process is killed while a child of its own works; the child ends with it
# verdict: ok
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: ^the worker ended with its boss$
import multiprocessing
import os
import signal
import sys
import time


def work(pids):
    pids.put(os.getpid())
    time.sleep(60)


def supervise(pids):
    multiprocessing.Process(target=work, args=(pids,)).start()
    time.sleep(60)


def is_there(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:  # also ended between open and read
        return False


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    pids = multiprocessing.SimpleQueue()
    boss = multiprocessing.Process(target=supervise, args=(pids,))
    boss.start()
    worker = pids.get()
    boss.kill()
    boss.join()
    end = time.monotonic() + 2
    while is_there(worker) and time.monotonic() < end:
        time.sleep(0.01)
    if is_there(worker):
        print("WRONG: the worker goes on alone")
        os.kill(worker, signal.SIGKILL)
    else:
        print("the worker ended with its boss")
