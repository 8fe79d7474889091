# shows: fork with an RLock held elsewhere; the child's main waits for it while another thread of the child is awake
# verdict: deadlock
# plain: hang
# report: "MainThread" @child_waits
# expect: child ended with 1
# exit: 0
import os
import threading

lock = threading.RLock()
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
    readable, writable = os.pipe()
    threading.Thread(target=os.read, args=(readable, 1), name="awake").start()
    try:
        with lock:  # @child_waits
            os._exit(0)
    finally:
        os.write(writable, b".")
_, status = os.waitpid(pid, 0)
give_back.set()
keeper.join()
print("child ended with", os.waitstatus_to_exitcode(status))
