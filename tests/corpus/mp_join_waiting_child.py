# shows: the parent joins a child that waits for an event, which the parent wants to set afterwards
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "MainProcess" "child" @joins @waits
# reports: 1-2
import multiprocessing
import sys


def work(go):
    go.wait()  # @waits


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    go = multiprocessing.Event()
    child = multiprocessing.Process(target=work, args=(go,), name="child")
    child.start()
    child.join()  # @joins
    go.set()
