# shows: a pipeline of three processes joined by queues; a None runs through it at the end
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^\[1, 9, 25, 49, 81\]$
import multiprocessing
import sys


def number(out):
    for n in range(10):
        out.put(n)
    out.put(None)


def keep_odd(inbox, out):
    for n in iter(inbox.get, None):
        if n % 2:
            out.put(n)
    out.put(None)


def square(inbox, out):
    for n in iter(inbox.get, None):
        out.put(n * n)
    out.put(None)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    numbers, odd, squares = (multiprocessing.Queue(maxsize=2) for _ in range(3))
    stages = [
        multiprocessing.Process(target=number, args=(numbers,)),
        multiprocessing.Process(target=keep_odd, args=(numbers, odd)),
        multiprocessing.Process(target=square, args=(odd, squares)),
    ]
    for stage in stages:
        stage.start()
    print(list(iter(squares.get, None)))
    for stage in stages:
        stage.join()
