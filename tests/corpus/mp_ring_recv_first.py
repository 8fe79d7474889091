# shows: three processes in a ring all receive from the left before they send to the right
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "west" "north" "east" @receives
# reports: 1-4
import multiprocessing
import sys

NAMES = ["west", "north", "east"]


def go_round(left, right):
    item = left.recv()  # @receives
    right.send(item)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    pipes = [multiprocessing.Pipe(False) for _ in NAMES]
    processes = [
        multiprocessing.Process(target=go_round, args=(pipes[n][0], pipes[(n + 1) % 3][1]), name=name)
        for n, name in enumerate(NAMES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
