# shows: a child takes a manager's lock and ends; the next one waits for it in the manager
# verdict: deadlock
# plain: hang
# methods: fork
# report: "Lock"
# reports: 1-2
import multiprocessing
import sys


def take(lock):
    lock.acquire()
    print("taken", flush=True)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Manager() as manager:
        lock = manager.Lock()
        for name in ("early", "late"):
            process = multiprocessing.Process(target=take, args=(lock,), name=name)
            process.start()
            process.join()
