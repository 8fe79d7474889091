# shows: fork while another thread holds a lock taken by acquire()
# verdict: deadlock
# plain: hang
# report: "MainThread" @child_waits
# expect: child ended with 1
# exit: 0
import os
import threading

lock = threading.Lock()
taken = threading.Event()
give_back = threading.Event()


def keep():
    lock.acquire()
    taken.set()
    give_back.wait()
    lock.release()


keeper = threading.Thread(target=keep, name="keeper")
keeper.start()
taken.wait()
pid = os.fork()
if pid == 0:
    lock.acquire()  # @child_waits
    os._exit(0)
_, status = os.waitpid(pid, 0)
give_back.set()
keeper.join()
print("child ended with", os.waitstatus_to_exitcode(status))
