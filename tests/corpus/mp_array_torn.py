# shows: a writer changes an Array element by element without its lock; a reader sees half of the change
# verdict: wrong-answer
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: WRONG: read \[7, 7, 0, 0\]
import multiprocessing
import sys


def fill(array, half_written, was_read):
    for index in range(len(array)):
        if index == 2:
            half_written.set()
            was_read.wait()
        array[index] = 7


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    array = multiprocessing.Array("i", 4)
    half_written, was_read = multiprocessing.Event(), multiprocessing.Event()
    writer = multiprocessing.Process(target=fill, args=(array, half_written, was_read))
    writer.start()
    half_written.wait()  # nothing forbids reading now
    seen = array[:]
    was_read.set()
    writer.join()
    print("fine" if len(set(seen)) == 1 else f"WRONG: read {seen}")
