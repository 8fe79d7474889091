# shows: the same two counters without the barrier; one thread reads what the other wrote
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: counters: \[1, 2\]
import threading

counters = [0, 0]
first_wrote = threading.Event()


def count(thread_num):
    if thread_num == 1:
        first_wrote.wait()  # nothing forbids this order
    other = counters[1 - thread_num]
    counters[thread_num] = other + 1
    first_wrote.set()


other = threading.Thread(target=count, args=(1,))
other.start()
count(0)
other.join()
print("fine" if counters == [1, 1] else f"WRONG: counters: {counters} instead of [1, 1]")
