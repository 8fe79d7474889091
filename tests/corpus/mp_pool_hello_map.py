# shows: seven greetings by `Pool.map` in three processes; "Done!" comes last
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^Process \d+: Hello Emmy!$
# expect: ^Done! 7 greetings before it$
import multiprocessing
import os
import sys
from multiprocessing import Pool, Value

said = None


def share(value):
    global said
    said = value


def greeter(name):
    with said.get_lock():
        print(f"Process {os.getpid()}: Hello {name}!", flush=True)
        said.value += 1


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    names = ["Ada", "Blaise", "Chiara", "Dirk", "Emmy", "Fatima", "Tom"]
    counter = Value("i", 0)
    pool = Pool(processes=3, initializer=share, initargs=(counter,))
    pool.map(greeter, names)
    print(f"Done! {counter.value} greetings before it")
    pool.close()
    pool.join()
