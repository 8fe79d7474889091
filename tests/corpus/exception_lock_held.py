# shows: an exception between acquire and release; the lock stays taken after its owner has ended
# verdict: deadlock
# plain: hang
# report: "MainThread" @takes @waits
# expect: ValueError: invalid literal
# exit: 1
import threading

lock = threading.Lock()
total = 0


def add(text):
    global total
    lock.acquire()  # @takes
    total += int(text)
    lock.release()


adder = threading.Thread(target=add, args=("ten",), name="adder")
adder.start()
adder.join()
with lock:  # @waits
    print("total", total)
