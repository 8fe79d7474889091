# shows: main itself is one of the two that take the locks in opposite order
# verdict: deadlock
# plain: hang
# report: "MainThread" "other" @holds @waits
import threading

red = threading.Lock()
blue = threading.Lock()
each_has_one = threading.Barrier(2)


def take_both(first, second):
    with first:  # @holds
        each_has_one.wait()
        with second:  # @waits
            print("has both")


other = threading.Thread(target=take_both, args=(red, blue), name="other")
other.start()
take_both(blue, red)
other.join()
