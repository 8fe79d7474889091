# shows: a Thread subclass with its own run(), a name and the daemon attribute
# verdict: ok
# plain: ok
# expect: squares: \[0, 1, 4, 9\]
# expect: Squarer\(square-3
import threading


class Squarer(threading.Thread):
    def __init__(self, value):
        super().__init__(name=f"square-{value}")
        self.value = value
        self.result = None
        self.daemon = True

    def run(self):
        self.result = self.value * self.value


squarers = [Squarer(value) for value in range(4)]
for squarer in squarers:
    squarer.start()
for squarer in squarers:
    squarer.join()
print("squares:", [squarer.result for squarer in squarers])
print(squarers[3])
assert not any(squarer.is_alive() for squarer in squarers)
