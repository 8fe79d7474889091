# shows: parts of a list sorted by a pool and merged in pairs, again by the pool
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^20000 numbers in order after 3 rounds of merging$
import multiprocessing
import random
import sys


def merge(left, right):
    merged, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            merged.append(left[i])
            i += 1
        else:
            merged.append(right[j])
            j += 1
    return merged + left[i:] + right[j:]


def sort(numbers):
    if len(numbers) < 2:
        return numbers
    half = len(numbers) // 2
    return merge(sort(numbers[:half]), sort(numbers[half:]))


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    numbers = random.Random(3).sample(range(10**6), 20_000)
    size, rounds = len(numbers) // 8, 0
    with multiprocessing.Pool(2) as pool:
        runs = pool.map(sort, [numbers[n * size : (n + 1) * size] for n in range(8)])
        while len(runs) > 1:
            runs = pool.starmap(merge, zip(runs[::2], runs[1::2]))
            rounds += 1
    order = "in order" if runs[0] == sorted(numbers) else "WRONG"
    print(f"{len(runs[0])} numbers {order} after {rounds} rounds of merging")
