# shows: writer and reader of an Array both take its lock; the reader sees all of a change or nothing
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^never torn, at last \[99, 99, 99, 99\]$
import multiprocessing
import sys


def fill(array):
    for number in range(100):
        with array.get_lock():
            for index in range(len(array)):
                array[index] = number


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    array = multiprocessing.Array("i", 4)
    writer = multiprocessing.Process(target=fill, args=(array,))
    writer.start()
    torn = 0
    while array[3] < 99:
        with array.get_lock():
            torn += len(set(array[:])) > 1
    writer.join()
    print("never torn, at last" if not torn else "WRONG: torn, at last", array[:])
