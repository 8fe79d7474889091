# shows: work that waits, one after the other and in threads
# verdict: ok
# plain: ok
# expect: (?s)test wait.*serial execution: .*multithreading:
# expect: Process name:MainProcess Thread name:MainThread
# expect: Thread name:Thread-1
import multiprocessing
import os
import threading
import time


def wait():
    name = multiprocessing.current_process().name
    print(f"PID:{os.getpid()} Process name:{name} Thread name:{threading.current_thread().name}\n", end="")
    time.sleep(0.03)


if __name__ == "__main__":
    workers = 4
    print("{} test {} {}".format("-" * 10, wait.__name__, "-" * 10))
    start_time = time.time()
    for _ in range(workers):
        wait()
    print(f"serial execution: {time.time() - start_time:.3f}")
    start_time = time.time()
    threads = [threading.Thread(target=wait) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"execution time of multithreading: {time.time() - start_time:.3f}")
