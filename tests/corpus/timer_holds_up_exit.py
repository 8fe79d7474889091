# shows: the function of a timer waits for an event that main would set after the join
# verdict: deadlock
# plain: hang
# report: "clock" @waits "MainThread" @joins
# expect: main is done
# exit: 0
import threading

go = threading.Event()


def ring():
    go.wait()  # @waits


clock = threading.Timer(0.01, ring)
clock.name = "clock"
clock.start()
clock.join()  # @joins
go.set()
print("main is done")
