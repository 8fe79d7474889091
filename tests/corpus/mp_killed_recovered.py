# shows: a program that survives a killed owner: it is told once, repairs what the lock guards, and goes on
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^told: OwnerDied$
# expect: ^balance 100 again$
import multiprocessing
import os
import signal
import sys


def transfer(lock, accounts):
    with lock:
        accounts[0] -= 30
        os.kill(os.getpid(), signal.SIGKILL)
        accounts[1] += 30


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.Lock()
    accounts = multiprocessing.Array("i", [50, 50], lock=False)
    worker = multiprocessing.Process(target=transfer, args=(lock, accounts))
    worker.start()
    worker.join()
    try:
        with lock:
            pass
    except Exception as error:
        print("told:", type(error).__name__)
        accounts[1] = 100 - accounts[0]
        lock.recover()
    with lock:
        print("balance", sum(accounts), "again")
