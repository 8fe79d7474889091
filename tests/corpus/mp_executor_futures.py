# shows: futures as keys, in the order in which they end; map in the order of the input, with chunks
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^as completed: a=1 b=2 c=3 d=bad$
# expect: ^map: \[0, 1, 4, 9, 16\] \['a0', 'b1'\]$
# expect: ^first done: 1, not done: 0, cancelled: False$
import multiprocessing
import sys
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, as_completed, wait

VALUES = {"a": "1", "b": "2", "c": "3", "d": "four"}


def square(number):
    return number * number


def join(left, right):
    return f"{left}{right}"


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with ProcessPoolExecutor(max_workers=2) as executor:
        futures = {executor.submit(int, text): name for name, text in VALUES.items()}
        found = {}
        for future in as_completed(futures):
            found[futures[future]] = "bad" if future.exception() else future.result()
        print("as completed:", *[f"{name}={found[name]}" for name in sorted(found)])
        print("map:", list(executor.map(square, range(5), chunksize=2)), list(executor.map(join, "ab", range(2))))
        one = executor.submit(square, 3)
        done, waiting = wait([one], return_when=FIRST_COMPLETED)
        print(f"first done: {len(done)}, not done: {len(waiting)}, cancelled: {one.cancel()}")
