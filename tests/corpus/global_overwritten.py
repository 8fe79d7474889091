# shows: one thread assigns a global and checks it, another assigns in between
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: assigned 1, found 2
import threading

x = 0
assigned = threading.Event()
overwritten = threading.Event()


def check():
    global x
    x = 1
    assigned.set()
    overwritten.wait()
    print("fine" if x == 1 else f"WRONG: assigned 1, found {x}")


def overwrite():
    global x
    assigned.wait()
    x = 2
    overwritten.set()


t1 = threading.Thread(target=check)
t2 = threading.Thread(target=overwrite)
t1.start()
t2.start()
t1.join()
t2.join()
