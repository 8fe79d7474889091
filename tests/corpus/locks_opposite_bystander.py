# shows: opposite order while main reads from a pipe; the cycle is found although a thread is awake
# verdict: deadlock
# plain: hang
# report: "left" "right" @holds @waits
# expect: main is done
# exit: 0
import os
import threading

red = threading.Lock()
blue = threading.Lock()
each_has_one = threading.Barrier(2)
readable, writable = os.pipe()


def take_both(first, second):
    try:
        with first:  # @holds
            each_has_one.wait()
            with second:  # @waits
                print("has both")
    finally:
        os.write(writable, b".")


threading.Thread(target=take_both, args=(red, blue), name="left").start()
threading.Thread(target=take_both, args=(blue, red), name="right").start()
missing = 2
while missing:
    missing -= len(os.read(readable, missing))
print("main is done")
