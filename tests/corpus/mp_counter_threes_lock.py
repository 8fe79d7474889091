# shows: two processes count a shared Value up by threes under a Lock: 3, 6, 9, 12
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: (?s)counter is 3$.*counter is 6$.*counter is 9$.*counter is 12$
import sys
from multiprocessing import Lock, Process, Value, set_start_method


def count(name, counter, lock):
    for _ in range(2):
        with lock:
            for _ in range(3):
                counter.value += 1
            print(f"{name}: counter is {counter.value}", flush=True)


if __name__ == "__main__":
    set_start_method(sys.argv[1])
    counter = Value("i", 0)
    lock = Lock()
    processes = [Process(target=count, args=(name, counter, lock)) for name in ("first", "second")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert counter.value == 12
