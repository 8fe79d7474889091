# shows: a process that waits in get() is terminated; the others can still get
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^second got parcel$
import multiprocessing
import sys
import time


def fetch(queue, started):
    started.set()
    print("second got", queue.get())


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue()
    started = multiprocessing.Event()
    first = multiprocessing.Process(target=fetch, args=(queue, started))
    first.start()
    started.wait()
    time.sleep(0.3)  # now it sits in get()
    first.terminate()
    first.join()
    second = multiprocessing.Process(target=fetch, args=(queue, started))
    second.start()
    queue.put("parcel")
    second.join()
