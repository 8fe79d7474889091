# shows: a result read before the join, so the work is not in it
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: 0 of 1000
import threading

counter = [0]
may_count = threading.Event()


def count_up():
    may_count.wait()
    for _ in range(1000):
        counter[0] += 1


counting = threading.Thread(target=count_up)
counting.start()
result = counter[0]  # read here, and only then does the thread get its turn
may_count.set()
counting.join()
print("fine" if result == 1000 else f"WRONG: {result} of 1000")
