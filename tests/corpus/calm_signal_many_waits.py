# shows: main waits in a queue, a lock, a join; each time a signal from another process brings it on
# verdict: ok
# plain: ok
# expect: woken from queue, lock, join
import os
import queue
import signal
import subprocess
import threading

q = queue.SimpleQueue()
gate = threading.Lock()
gate.acquire()
door = threading.Lock()
door.acquire()
through_door = threading.Thread(target=door.acquire)
steps = iter((lambda: q.put("go"), gate.release, door.release))
signal.signal(signal.SIGUSR1, lambda signum, frame: next(steps)())


def ask_for_signal():
    return subprocess.Popen(["sh", "-c", f"sleep 0.1; kill -USR1 {os.getpid()}"])


ask_for_signal()
q.get()
ask_for_signal()
gate.acquire()
through_door.start()
ask_for_signal()
through_door.join()
print("woken from queue, lock, join")
