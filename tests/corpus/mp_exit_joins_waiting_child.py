# shows: the main program is over, but its child waits for an item that nobody can put any more
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "child" @gets
# reports: 1-2
# expect: ^main is done$
import multiprocessing
import sys


def work(queue):
    queue.get()  # @gets


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue()
    multiprocessing.Process(target=work, args=(queue,), name="child").start()
    print("main is done", flush=True)
