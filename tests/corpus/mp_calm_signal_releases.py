# shows: the main process waits for a permit that its own signal handler gives
# verdict: ok
# plain: ok
# methods: fork
# expect: ^released by the handler$
import multiprocessing
import os
import signal
import sys
import time

multiprocessing.set_start_method(sys.argv[1])
permits = multiprocessing.Semaphore(0)
signal.signal(signal.SIGUSR1, lambda number, frame: permits.release())


def send():
    time.sleep(0.7)
    os.kill(os.getppid(), signal.SIGUSR1)


sender = multiprocessing.Process(target=send)
sender.start()
permits.acquire()
print("released by the handler")
sender.join()
