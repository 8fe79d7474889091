# shows: a process is forked while a thread holds a lock; the child has the lock but not the thread
# verdict: deadlock
# plain: hang
# methods: fork
# report: "MainThread" @child_waits
# expect: ^child ended with 1$
# exit: 0
import multiprocessing
import sys
import threading

lock = threading.Lock()
taken = threading.Event()
give_back = threading.Event()


def keep():
    with lock:
        taken.set()
        give_back.wait()


def work():
    with lock:  # @child_waits
        print("never reached")


multiprocessing.set_start_method(sys.argv[1])
keeper = threading.Thread(target=keep)
keeper.start()
taken.wait()
child = multiprocessing.Process(target=work)
child.start()
child.join()
print("child ended with", child.exitcode)
give_back.set()
keeper.join()
