# shows: three processes increment a Value under the lock that it brings along; none is lost
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^count is 3000$
import multiprocessing
import sys


def increment(counter, steps):
    for _ in range(steps):
        with counter.get_lock():
            counter.value += 1


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    counter = multiprocessing.Value("i", 0)
    processes = [multiprocessing.Process(target=increment, args=(counter, 1000)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print("count is", counter.value)
