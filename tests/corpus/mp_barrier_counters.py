# shows: two counters in two processes follow each other, read and write phases kept apart by a Barrier
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: counters: \[10, 10\]
import multiprocessing
import sys


def count(number, steps, counters, barrier):
    for _ in range(steps):
        other = counters[1 - number]
        barrier.wait()  # all have read
        counters[number] = other + 1
        barrier.wait()  # all have written


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    counters = multiprocessing.Array("i", [0, 0])
    barrier = multiprocessing.Barrier(2)
    other = multiprocessing.Process(target=count, args=(1, 10, counters, barrier))
    other.start()
    count(0, 10, counters, barrier)
    other.join()
    print("counters:", counters[:])
