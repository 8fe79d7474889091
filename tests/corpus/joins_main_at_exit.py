# shows: a thread joins main, and main just ends
# verdict: ok
# plain: ok
# expect: main has ended
import threading


def wait_for_parent():
    threading.main_thread().join()
    print("main has ended")


threading.Thread(target=wait_for_parent, name="child").start()
