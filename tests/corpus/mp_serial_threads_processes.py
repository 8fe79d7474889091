# shows: work that waits and work that computes: one after the other, in threads, in processes
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: (?s)test wait.*serial execution: .*multithreading: .*multiprocessing: .*test computing.*multiprocessing:
# expect: ^12 lines of wait, 12 of computing$
import math
import multiprocessing
import os
import sys
import threading
import time

WORKERS = 4


def report(task, lines):
    lines.put((task, os.getpid(), multiprocessing.current_process().name, threading.current_thread().name))


def wait(lines):
    report("wait", lines)
    time.sleep(0.02)


def computing(lines):
    report("computing", lines)
    x = 0
    y = 0.001
    while x < 20_000:
        y = math.cos(y)
        x = x + 1
    return y


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lines = multiprocessing.Queue()
    for func in (wait, computing):
        print("{} test {} {}".format("-" * 10, func.__name__, "-" * 10))
        start_time = time.time()
        for _ in range(WORKERS):
            func(lines)
        print(f"serial execution: {time.time() - start_time:.3f}")
        for title, kind in (("multithreading", threading.Thread), ("multiprocessing", multiprocessing.Process)):
            start_time = time.time()
            workers = [kind(target=func, args=(lines,)) for _ in range(WORKERS)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            print(f"execution time of {title}: {time.time() - start_time:.3f}")
    seen = [lines.get() for _ in range(6 * WORKERS)]
    tasks = [task for task, *_ in seen]
    assert len({pid for _, pid, *_ in seen}) == 1 + 2 * WORKERS
    print(f"{tasks.count('wait')} lines of wait, {tasks.count('computing')} of computing")
