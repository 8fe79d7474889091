# shows: a product of matrices by rows; the second factor goes to each worker once, by the initializer
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^40 rows, trace \d+$
# expect: ^as in one process$
import multiprocessing
import sys

columns = None


def keep(matrix):
    global columns
    columns = list(zip(*matrix))


def multiply(row):
    return [sum(a * b for a, b in zip(row, column)) for column in columns]


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    size = 40
    one = [[(i * 7 + j * 3) % 11 for j in range(size)] for i in range(size)]
    two = [[(i * 5 + j * 2) % 13 for j in range(size)] for i in range(size)]
    with multiprocessing.Pool(2, keep, (two,)) as pool:
        product = pool.map(multiply, one, chunksize=5)
    print(f"{len(product)} rows, trace {sum(product[i][i] for i in range(size))}")
    keep(two)
    print("as in one process" if product == [multiply(row) for row in one] else "WRONG: another product")
