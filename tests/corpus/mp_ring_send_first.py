# shows: four processes in a ring all send a large block to the right, then receive from the left, four times round
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^all blocks are home again$
import multiprocessing
import sys

COUNT = 4


def go_round(number, left, right, done):
    block = [number] * 100_000
    for _ in range(COUNT):
        right.send(block)
        block = left.recv()
    done.send(block == [number] * 100_000)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    pipes = [multiprocessing.Pipe(False) for _ in range(COUNT)]
    results, done = multiprocessing.Pipe(False)
    processes = [
        multiprocessing.Process(target=go_round, args=(n, pipes[n][0], pipes[(n + 1) % COUNT][1], done))
        for n in range(COUNT)
    ]
    for process in processes:
        process.start()
    home = [results.recv() for _ in processes]
    for process in processes:
        process.join()
    print("all blocks are home again" if all(home) else "WRONG: a block is lost")
