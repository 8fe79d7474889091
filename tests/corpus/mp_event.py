# shows: an Event starts three processes at once; wait() with a time limit tells whether it is set
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^False, then \[True, True, True\], then False$
import multiprocessing
import sys


def run(go, results):
    results.put(go.wait())


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    go = multiprocessing.Event()
    results = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=run, args=(go, results)) for _ in range(3)]
    for process in processes:
        process.start()
    first = go.wait(0.01)
    go.set()
    answers = [results.get() for _ in processes]
    for process in processes:
        process.join()
    go.clear()
    print(f"{first}, then {answers}, then {go.is_set()}")
