# shows: a process that holds a lock is stopped for a second and goes on: neither dead nor a deadlock
# verdict: ok
# plain: ok
# methods: fork
# expect: ^got the lock after SIGCONT$
import multiprocessing
import os
import signal
import sys
import threading


def hold(lock, held):
    with lock:
        held.set()
        os.kill(os.getpid(), signal.SIGSTOP)


multiprocessing.set_start_method(sys.argv[1])
lock, held = multiprocessing.Lock(), multiprocessing.Event()
holder = multiprocessing.Process(target=hold, args=(lock, held))
holder.start()
held.wait()
threading.Timer(1.2, os.kill, (holder.pid, signal.SIGCONT)).start()
with lock:
    print("got the lock after SIGCONT")
holder.join()
