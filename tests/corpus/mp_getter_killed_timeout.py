# shows: a process is killed inside get(); a get() of another one still finds the queue, and keeps its time limit
# verdict: ok
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: ^first ended with -9, parcel there, then empty$
import multiprocessing
import queue
import sys
import time


def first(parcels, started):
    started.set()
    parcels.get()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    parcels = multiprocessing.Queue()
    started = multiprocessing.Event()
    getter = multiprocessing.Process(target=first, args=(parcels, started))
    getter.start()
    started.wait()
    time.sleep(0.3)  # now it sits in get()
    getter.kill()
    getter.join()
    parcels.put("parcel")
    seen = []
    for limit in (0.5, 0.05):
        try:
            seen.append(f"{parcels.get(timeout=limit)} there")
        except queue.Empty:
            seen.append("then empty")
    wrong = "" if seen[0] == "parcel there" else "WRONG: "
    print(f"{wrong}first ended with {getter.exitcode},", ", ".join(seen))
