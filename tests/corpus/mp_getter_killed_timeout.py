# shows: a process is killed inside get(); a get() of another one still finds the queue, and keeps its time limit
# verdict: ok
# plain: wrong-answer
# methods: fork spawn
# expect: ^first ended with -14, parcel there, then empty$
import multiprocessing
import queue
import signal
import sys


def first(parcels):
    signal.setitimer(signal.ITIMER_REAL, 0.3)  # the end of it, by SIGALRM
    parcels.get()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    parcels = multiprocessing.Queue()
    getter = multiprocessing.Process(target=first, args=(parcels,))
    getter.start()
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
