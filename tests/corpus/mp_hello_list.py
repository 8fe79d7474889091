# shows: one process for each name of a list, all joined; each has a pid of its own
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: Process \d+: Hello Ada!
# expect: Process \d+: Hello Blaise!
# expect: Process \d+: Hello Chiara!
# expect: ^3 pids, none is ours$
import os
import sys
from multiprocessing import Process, set_start_method


def greet(name):
    print(f"Process {os.getpid()}: Hello {name}!")


if __name__ == "__main__":
    set_start_method(sys.argv[1])
    processes = []
    for name in ["Ada", "Blaise", "Chiara"]:
        process = Process(target=greet, args=(name,))
        processes.append(process)
        process.start()
    for process in processes:
        process.join()
    pids = {process.pid for process in processes}
    print(f"{len(pids)} pids,", "one is ours" if os.getpid() in pids else "none is ours")
