# shows: a subclass of Process with a run() of its own; only what goes through a queue comes back
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^squarer-0: 16, squarer-1: 25$
# expect: ^here still None$
import multiprocessing
import sys


class Squarer(multiprocessing.Process):
    def __init__(self, number, results):
        super().__init__(name=f"squarer-{number - 4}")
        self.number = number
        self.results = results
        self.square = None

    def run(self):
        self.square = self.number**2
        self.results.put((self.name, self.square))


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    results = multiprocessing.Queue()
    squarers = [Squarer(number, results) for number in (4, 5)]
    for squarer in squarers:
        squarer.start()
    found = sorted(results.get() for _ in squarers)
    for squarer in squarers:
        squarer.join()
    print(", ".join(f"{name}: {square}" for name, square in found))
    print("here still", squarers[0].square)
