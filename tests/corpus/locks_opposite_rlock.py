# shows: two threads take two RLocks in opposite order, by acquire(); an RLock always has an owner
# verdict: deadlock
# plain: hang
# report: "left" @left_holds @left_waits "right" @right_holds @right_waits
# expect: main is done
# exit: 0
import threading

red = threading.RLock()
blue = threading.RLock()
each_has_one = threading.Barrier(2)


def red_then_blue():
    red.acquire()  # @left_holds
    try:
        each_has_one.wait()
        blue.acquire()  # @left_waits
        blue.release()
    finally:
        red.release()


def blue_then_red():
    blue.acquire()  # @right_holds
    try:
        each_has_one.wait()
        red.acquire()  # @right_waits
        red.release()
    finally:
        blue.release()


left = threading.Thread(target=red_then_blue, name="left")
right = threading.Thread(target=blue_then_red, name="right")
left.start()
right.start()
left.join()
right.join()
print("main is done")
