# shows: an exception ends its thread, prints a traceback, and main goes on
# verdict: error
# plain: error
# expect: Exception in thread divider
# expect: ZeroDivisionError: division by zero
# expect: main goes on
# exit: 0
import threading


def divide():
    print(1 / 0)


divider = threading.Thread(target=divide, name="divider")
divider.start()
divider.join()
print("main goes on")
