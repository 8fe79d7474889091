# shows: two threads send to each other first and receive afterwards; both queues are full
# verdict: deadlock
# plain: hang
# report: "east" "west" @puts
# reports: 1-2
# exit: 0
import queue
import threading

to_east = queue.Queue(maxsize=1)
to_west = queue.Queue(maxsize=1)


def exchange(outbox, inbox):
    for parcel in range(2):
        outbox.put(parcel)  # @puts
    for _ in range(2):
        inbox.get()


east = threading.Thread(target=exchange, args=(to_west, to_east), name="east")
west = threading.Thread(target=exchange, args=(to_east, to_west), name="west")
east.start()
west.start()
east.join()
west.join()
print("main is done")
