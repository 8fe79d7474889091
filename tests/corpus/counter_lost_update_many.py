# shows: unlocked read, switch, write in a loop; a long row of updates is lost at once
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: \d+ instead of 4000
import sys
import threading
from time import sleep

sys.setswitchinterval(1e-6)


class Counter:
    def __init__(self):
        self.count = 0

    def increment(self):
        old_count = self.count
        sleep(0)  # give the other thread every chance
        self.count = old_count + 1


def count_up(counter, first_read, go_on):
    old_count = counter.count
    first_read.set()
    go_on.wait()
    counter.count = old_count + 1  # wipes out whatever was counted since
    for _ in range(1999):
        counter.increment()


counter = Counter()
has_read, go_on, nothing = threading.Event(), threading.Event(), threading.Event()
nothing.set()
slow = threading.Thread(target=count_up, args=[counter, has_read, go_on])
quick = threading.Thread(target=count_up, args=[counter, threading.Event(), nothing])
slow.start()
has_read.wait()
quick.start()
while counter.count < 100:
    sleep(0)
go_on.set()
slow.join()
quick.join()
print("fine" if counter.count == 4000 else f"WRONG: {counter.count} instead of 4000")
