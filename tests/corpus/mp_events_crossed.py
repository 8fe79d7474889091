# shows: two processes wait for each other's event before they set their own
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "left" "right" @waits
# reports: 1-3
import multiprocessing
import sys


def work(wanted, own):
    wanted.wait()  # @waits
    own.set()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    one, two = multiprocessing.Event(), multiprocessing.Event()
    left = multiprocessing.Process(target=work, args=(one, two), name="left")
    right = multiprocessing.Process(target=work, args=(two, one), name="right")
    left.start()
    right.start()
    left.join()
    right.join()
