# shows: sleep(0) between read and write only tries to lose an update; either result is legal
# verdict: ok
# plain: ok
# expect: count is now:  [12]
import threading
from time import sleep

counter = [0]


def increment():
    count = counter[0]
    sleep(0)
    counter[0] = count + 1


other = threading.Thread(target=increment, args=())
other.start()
increment()
other.join()
print("count is now: ", counter[0])
