# shows: daemon processes asleep in every kind of wait when the program ends. That is normal
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^main is done$
import multiprocessing
import sys
import time


def wait_in(started, thing, method):
    started.release()
    getattr(thing, method)()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.Lock()
    lock.acquire()
    pipe = multiprocessing.Pipe()
    waits = [
        (lock, "acquire"),
        (multiprocessing.Event(), "wait"),
        (multiprocessing.Semaphore(0), "acquire"),
        (multiprocessing.Barrier(2), "wait"),
        (multiprocessing.Queue(), "get"),
        (multiprocessing.SimpleQueue(), "get"),
        (pipe[0], "recv"),
    ]
    started = multiprocessing.Semaphore(0)
    for thing, method in waits:
        multiprocessing.Process(target=wait_in, args=(started, thing, method), daemon=True).start()
    for _ in waits:
        started.acquire()
    time.sleep(0.7)  # the main process is awake
    print("main is done")
