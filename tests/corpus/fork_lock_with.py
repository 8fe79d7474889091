# shows: fork while another thread is inside `with lock`; the child waits for an owner it does not have
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
    with lock:
        taken.set()
        give_back.wait()


keeper = threading.Thread(target=keep, name="keeper")
keeper.start()
taken.wait()
pid = os.fork()
if pid == 0:
    with lock:  # @child_waits
        os._exit(0)
_, status = os.waitpid(pid, 0)
give_back.set()
keeper.join()
print("child ended with", os.waitstatus_to_exitcode(status))
