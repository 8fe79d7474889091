# shows: a process is killed while it puts a large item; the others can still put and get
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^got the survivor's item$
import multiprocessing
import sys


def put(queue, item):
    queue.put(item)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue()
    victim = multiprocessing.Process(target=put, args=(queue, b"x" * 10_000_000))
    victim.start()
    while queue.empty():
        pass
    victim.kill()
    victim.join()
    survivor = multiprocessing.Process(target=put, args=(queue, "the survivor's item"))
    survivor.start()
    while not isinstance(item := queue.get(), str):
        pass
    print("got", item)
    survivor.join()
