# shows: a process takes the only permit and ends without giving it back; the next one waits for it
# verdict: error
# plain: hang
# methods: fork spawn forkserver
# expect: ^phalanx.OwnerDied: process "early"
# exit: 0
import multiprocessing
import sys


def take(semaphore):
    semaphore.acquire()
    print("taken", flush=True)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    semaphore = multiprocessing.Semaphore(1)
    for name in ("early", "late"):
        process = multiprocessing.Process(target=take, args=(semaphore,), name=name)
        process.start()
        process.join()
