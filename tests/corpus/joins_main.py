# shows: main joins a thread that joins main
# verdict: deadlock
# plain: hang
# report: "MainThread" @main_joins "child" @child_joins
import threading


def wait_for_parent():
    threading.main_thread().join()  # @child_joins


child = threading.Thread(target=wait_for_parent, name="child")
child.start()
child.join()  # @main_joins
