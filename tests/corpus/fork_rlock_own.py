# shows: the forking thread holds an RLock; in the child it is still the owner
# verdict: ok
# plain: ok
# expect: child ended with 0
import os
import threading

lock = threading.RLock()
with lock:
    pid = os.fork()
    if pid == 0:
        with lock:
            pass
        lock.release()
        t = threading.Thread(target=lock.acquire)
        t.start()
        t.join()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
print("child ended with", os.waitstatus_to_exitcode(status))
