# shows: main waits for an event whose setter ended with an exception
# verdict: deadlock
# plain: hang
# report: "MainThread" @waits
# expect: FileNotFoundError
# exit: 1
import threading

loaded = threading.Event()


def load():
    with open("/no/such/file", encoding="utf-8"):
        loaded.set()


threading.Thread(target=load, name="loader").start()
loaded.wait()  # @waits
print("never printed")
