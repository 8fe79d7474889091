# shows: an endless generator is given to imap, and twenty results are taken
# verdict: ok
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: ^20 results: 0 1 4 .* 361$
# expect: ^the generator was asked for some more, not for thousands$
import multiprocessing
import sys
import time

ENOUGH = 50_000
asked = 0


def square(number):
    return number * number


def numbers():
    global asked
    while asked < ENOUGH:
        asked += 1
        yield asked - 1


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        results = pool.imap(square, numbers())
        print("20 results:", *[next(results) for _ in range(20)])
        before = -1
        while before != asked:
            before = asked
            time.sleep(0.05)
    if asked < 5_000:
        print("the generator was asked for some more, not for thousands")
    else:
        print(f"WRONG: the generator was asked {asked} times")
