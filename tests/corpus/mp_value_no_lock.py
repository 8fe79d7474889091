# shows: two processes increment a Value; both read before one writes, so one increment is lost
# verdict: wrong-answer
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: WRONG: count is 1 instead of 2
import multiprocessing
import sys


def increment(counter, both_have_read):
    count = counter.value
    both_have_read.wait()
    counter.value = count + 1


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    counter = multiprocessing.Value("i", 0)
    both_have_read = multiprocessing.Barrier(2)
    other = multiprocessing.Process(target=increment, args=(counter, both_have_read))
    other.start()
    increment(counter, both_have_read)
    other.join()
    print("fine" if counter.value == 2 else f"WRONG: count is {counter.value} instead of 2")
