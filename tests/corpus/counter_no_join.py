# shows: the counting thread is never joined; the exit of the program waits for it all the same
# verdict: ok
# plain: ok
# expect: counted to the end
import threading


class Counter:
    def __init__(self):
        self.count = 0

    def increment(self):
        self.count += 1


def count_up(counter):
    for _ in range(50_000):
        counter.increment()
    if counter.count == 50_000:
        print("counted to the end")


def conduct_trial():
    counter = Counter()
    counting = threading.Thread(target=count_up, args=[counter])
    counting.start()
    return counter.count


print("main saw", conduct_trial())
