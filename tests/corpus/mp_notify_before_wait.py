# shows: a process is notified before it waits; nobody notifies it again
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "late" @waits
# reports: 1-2
import multiprocessing
import sys


def come_late(condition, notified):
    notified.wait()
    with condition:
        condition.wait()  # @waits


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    condition = multiprocessing.Condition()
    notified = multiprocessing.Event()
    late = multiprocessing.Process(target=come_late, args=(condition, notified), name="late")
    late.start()
    with condition:
        condition.notify_all()
    notified.set()
    late.join()
