# shows: `Pool.map_async` returns at once; `wait()` is what makes the greetings complete
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^ready at first: False$
# expect: ^ready after wait: True, successful: True$
# expect: ^Hello Ada! .* Hello Tom!$
import multiprocessing
import sys
from multiprocessing import Event, Pool

gate = None


def share(event):
    global gate
    gate = event


def greeter(name):
    gate.wait()
    return f"Hello {name}!"


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    names = ["Ada", "Blaise", "Chiara", "Dirk", "Emmy", "Fatima", "Tom"]
    opened = Event()
    with Pool(3, share, (opened,)) as pool:
        greetings = pool.map_async(greeter, names)
        print("ready at first:", greetings.ready())
        opened.set()
        greetings.wait()
        print(f"ready after wait: {greetings.ready()}, successful: {greetings.successful()}")
        print(*greetings.get())
