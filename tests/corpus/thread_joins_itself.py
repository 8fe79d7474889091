# shows: a thread that joins itself gets an error instead of waiting for ever
# verdict: error
# plain: error
# expect: RuntimeError: [Cc]annot join current thread
# exit: 0
import threading


def wait_for_me():
    threading.current_thread().join()


threading.Thread(target=wait_for_me, name="narcissus").start()
