# shows: sums of ranges by a pool of as many processes as there are cores, each task by apply_async
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^20 sums, the first \d+: right$
# expect: ^by workers of the pool only$
import multiprocessing
import os
import random
import sys


def func(n, m):
    if n > m:
        n, m = m, n
    return os.getpid(), sum(range(n, m))


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    numbers = random.Random(20)
    all_data = [(numbers.randrange(100), numbers.randrange(100)) for _ in range(20)]
    cores = multiprocessing.cpu_count()
    with multiprocessing.Pool(cores) as pool:
        returns = [pool.apply_async(func, args=(data[0], data[1])) for data in all_data]
        results = [a_return.get() for a_return in returns]
    sums = [total for _, total in results]
    right = sums == [sum(range(min(data), max(data))) for data in all_data]
    print(f"{len(sums)} sums, the first {sums[0]}: right" if right else f"WRONG: {sums}")
    pids = {pid for pid, _ in results}
    print("by workers of the pool only" if os.getpid() not in pids and len(pids) <= cores else "WRONG: processes")
