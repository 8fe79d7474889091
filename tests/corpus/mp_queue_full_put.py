# shows: the only process puts one item too many into its own queue
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "MainProcess" @puts
import multiprocessing
import sys

multiprocessing.set_start_method(sys.argv[1])
queue = multiprocessing.Queue(maxsize=2)
for number in range(3):
    queue.put(number)  # @puts
