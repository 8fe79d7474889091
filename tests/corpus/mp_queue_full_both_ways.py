# shows: two processes put into each other's queue first and get afterwards; both queues are full
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "east" "west" @puts
# reports: 1-3
import multiprocessing
import sys


def exchange(outbox, inbox):
    for parcel in range(2):
        outbox.put(parcel)  # @puts
    for _ in range(2):
        inbox.get()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    to_east, to_west = multiprocessing.Queue(maxsize=1), multiprocessing.Queue(maxsize=1)
    east = multiprocessing.Process(target=exchange, args=(to_west, to_east), name="east")
    west = multiprocessing.Process(target=exchange, args=(to_east, to_west), name="west")
    east.start()
    west.start()
    east.join()
    west.join()
