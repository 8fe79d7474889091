# shows: three increments and a print without a lock; the other thread gets in between
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: the first thread printed 4
import threading

counter = 0
printed = []
one_added = threading.Event()
other_added = threading.Event()


def incrementer1():
    global counter
    for step in range(3):
        counter += 1
        if step == 0:
            one_added.set()
            other_added.wait()
    printed.append(counter)


def incrementer2():
    global counter
    one_added.wait()
    counter += 1
    other_added.set()
    t1.join()
    for _ in range(2):
        counter += 1
    printed.append(counter)


t1 = threading.Thread(target=incrementer1)
t2 = threading.Thread(target=incrementer2)
t1.start()
t2.start()
t1.join()
t2.join()
print("fine" if printed == [3, 6] else f"WRONG: the first thread printed {printed[0]} instead of 3")
