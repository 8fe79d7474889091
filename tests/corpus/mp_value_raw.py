# shows: a Value without a lock of its own, guarded by a Lock that both processes know
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^count is 2000$
import multiprocessing
import sys


def increment(counter, lock, steps):
    for _ in range(steps):
        with lock:
            counter.value += 1


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    counter = multiprocessing.Value("q", 0, lock=False)
    assert not hasattr(counter, "get_lock")
    lock = multiprocessing.Lock()
    other = multiprocessing.Process(target=increment, args=(counter, lock, 1000))
    other.start()
    increment(counter, lock, 1000)
    other.join()
    print("count is", counter.value)
