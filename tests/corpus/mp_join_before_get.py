# shows: a child puts more into a queue than a kernel pipe holds, the parent joins it before it gets anything
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^got 20 items of 50000 bytes, in order$
import multiprocessing
import sys


def fill(queue):
    for number in range(20):
        queue.put((number, b"x" * 50_000))


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue()
    child = multiprocessing.Process(target=fill, args=(queue,))
    child.start()
    child.join()
    got = [queue.get() for _ in range(20)]
    assert [number for number, _ in got] == list(range(20))
    print("got", len(got), "items of", len(got[0][1]), "bytes, in order")
