# shows: the same idea without the barrier; one thread moves its particle before the other has looked
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: positions
import threading

positions = [0.0, 8.0]
first_has_moved = threading.Event()


def step(n):
    if n == 1:
        first_has_moved.wait()  # nothing forbids this order
    distance = positions[1 - n] - positions[n]
    positions[n] += distance / 4
    first_has_moved.set()


threads = [threading.Thread(target=step, args=(n,)) for n in (0, 1)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("fine" if positions == [2.0, 6.0] else f"WRONG: positions {positions} instead of [2.0, 6.0]")
