# shows: `with lock` inside `with lock` in one thread while main reads from a pipe
# verdict: deadlock
# plain: hang
# report: "forgetful" @holds @waits
# expect: main is done
# exit: 0
import os
import threading

lock = threading.Lock()
readable, writable = os.pipe()


def work():
    try:
        with lock:  # @holds
            with lock:  # @waits
                print("never printed")
    finally:
        os.write(writable, b".")


threading.Thread(target=work, name="forgetful").start()
os.read(readable, 1)
print("main is done")
