# shows: a process takes the only permit and ends without giving it back; the next one waits for it
# verdict: deadlock
# plain: hang
# methods: fork spawn
# report: "late" @takes
# reports: 1-2
import multiprocessing
import sys


def take(semaphore):
    semaphore.acquire()  # @takes
    print("taken", flush=True)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    semaphore = multiprocessing.Semaphore(1)
    for name in ("early", "late"):
        process = multiprocessing.Process(target=take, args=(semaphore,), name=name)
        process.start()
        process.join()
