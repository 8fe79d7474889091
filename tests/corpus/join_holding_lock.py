# shows: join inside `with lock` of a thread that needs the lock
# verdict: deadlock
# plain: hang
# report: "MainThread" @holds @joins "worker" @waits
import threading

lock = threading.Lock()


def work():
    with lock:  # @waits
        print("worker has the lock")


worker = threading.Thread(target=work, name="worker")
with lock:  # @holds
    worker.start()
    worker.join()  # @joins
