# shows: a cycle of two RLocks by acquire() while main reads from a pipe
# verdict: deadlock
# plain: hang
# report: "left" "right" @holds @waits
# expect: main is done
# exit: 0
import os
import threading

red = threading.RLock()
blue = threading.RLock()
each_has_one = threading.Barrier(2)
readable, writable = os.pipe()


def take_both(first, second):
    first.acquire()  # @holds
    try:
        each_has_one.wait()
        second.acquire()  # @waits
        second.release()
    finally:
        first.release()
        os.write(writable, b".")


threading.Thread(target=take_both, args=(red, blue), name="left").start()
threading.Thread(target=take_both, args=(blue, red), name="right").start()
missing = 2
while missing:
    missing -= len(os.read(readable, missing))
print("main is done")
