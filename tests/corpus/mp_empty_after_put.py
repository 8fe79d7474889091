# shows: a queue is not empty right after put(), however slowly the item is pickled
# verdict: ok
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: ^never empty after put$
import multiprocessing
import sys
import time


class Slow:
    def __reduce__(self):
        time.sleep(0.02)
        return Slow, ()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    empty = 0
    for _ in range(5):
        queue = multiprocessing.Queue()
        queue.put(Slow())
        empty += queue.empty()
        queue.get()
    print("never empty after put" if not empty else f"WRONG: {empty} of 5 empty after put")
