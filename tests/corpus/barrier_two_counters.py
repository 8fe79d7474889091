# shows: two counters follow each other in read and write phases kept apart by a barrier
# verdict: ok
# plain: ok
# expect: counters: \[10, 10\]
import threading

counters = [0, 0]
barrier = threading.Barrier(2)


def count(thread_num, steps):
    for _ in range(steps):
        other = counters[1 - thread_num]
        barrier.wait()  # all have read
        counters[thread_num] = other + 1
        barrier.wait()  # all have written


def threaded_count(steps):
    other = threading.Thread(target=count, args=(1, steps))
    other.start()
    count(0, steps)
    print("counters:", counters)


threaded_count(10)
