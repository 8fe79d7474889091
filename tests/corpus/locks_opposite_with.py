# shows: two threads take two locks in opposite order, by `with`
# verdict: deadlock
# plain: hang
# report: "left" @left_holds @left_waits "right" @right_holds @right_waits
# expect: has both
# expect: main is done
# exit: 0
import threading

red = threading.Lock()
blue = threading.Lock()
each_has_one = threading.Barrier(2)


def red_then_blue():
    with red:  # @left_holds
        each_has_one.wait()
        with blue:  # @left_waits
            print("left has both")


def blue_then_red():
    with blue:  # @right_holds
        each_has_one.wait()
        with red:  # @right_waits
            print("right has both")


left = threading.Thread(target=red_then_blue, name="left")
right = threading.Thread(target=blue_then_red, name="right")
left.start()
right.start()
left.join()
right.join()
print("main is done")
