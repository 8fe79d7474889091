# shows: a lock as a gate: taken by main, opened after a delay by another thread. No deadlock
# verdict: ok
# plain: ok
# expect: through the gate
import threading
import time

gate = threading.Lock()
gate.acquire()


def open_later():
    time.sleep(0.05)
    gate.release()


threading.Thread(target=open_later).start()
gate.acquire()
print("through the gate")
