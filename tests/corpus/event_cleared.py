# shows: an event set and cleared before the other thread comes to wait
# verdict: deadlock
# plain: hang
# report: "late" @waits
# expect: main is done
# exit: 0
import threading

green = threading.Event()
light_was_green = threading.Event()


def drive():
    light_was_green.wait()
    green.wait()  # @waits


late = threading.Thread(target=drive, name="late")
late.start()
green.set()
green.clear()
light_was_green.set()
late.join()
print("main is done")
