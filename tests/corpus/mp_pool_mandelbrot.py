# shows: the rows of a Mandelbrot set, dear ones in the middle, by imap in order
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^23 rows, \d+ points inside$
# expect: ^as in one process$
import multiprocessing
import sys
from functools import partial

WIDTH, HEIGHT, TURNS = 60, 23, 200


def escapes(c):
    z = 0
    for turn in range(TURNS):
        if abs(z) > 2:
            return turn
        z = z * z + c
    return TURNS


def row(width, y):
    return [escapes(complex(3.0 * x / width - 2.2, 2.4 * y / (HEIGHT - 1) - 1.2)) for x in range(width)]


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        rows = list(pool.imap(partial(row, WIDTH), range(HEIGHT)))
    for line in rows:
        print("".join("#" if turns == TURNS else "+" if turns > 8 else "." for turns in line))
    print(f"{len(rows)} rows, {sum(line.count(TURNS) for line in rows)} points inside")
    print("as in one process" if rows == [row(WIDTH, y) for y in range(HEIGHT)] else "WRONG: another picture")
