# shows: the same exception inside `with lock`, which lets the lock go
# verdict: error
# plain: error
# expect: ValueError: invalid literal
# expect: total 0
# exit: 0
import threading

lock = threading.Lock()
total = 0


def add(text):
    global total
    with lock:
        total += int(text)


adder = threading.Thread(target=add, args=("ten",), name="adder")
adder.start()
adder.join()
with lock:
    print("total", total)
