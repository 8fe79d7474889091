# shows: pi by counting random points; each task has a seed of its own, so the workers do not matter
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^1 workers: 3\.1\d+$
# expect: ^the same for 2 and 3 workers$
import multiprocessing
import random
import sys

POINTS = 5_000


def inside(seed):
    numbers = random.Random(seed)
    return sum(numbers.random() ** 2 + numbers.random() ** 2 < 1 for _ in range(POINTS))


def pi(workers, tasks=12):
    with multiprocessing.Pool(workers) as pool:
        return 4 * sum(pool.imap_unordered(inside, range(tasks))) / (tasks * POINTS)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    first = pi(1)
    print(f"1 workers: {first}")
    others = [pi(2), pi(3)]
    print("the same for 2 and 3 workers" if others == [first, first] else f"WRONG: {others}")
