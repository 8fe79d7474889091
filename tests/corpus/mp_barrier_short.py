# shows: a barrier for three processes, but only two come
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "one" "two" @waits
# reports: 1-3
import multiprocessing
import sys


def come(barrier):
    barrier.wait()  # @waits


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    barrier = multiprocessing.Barrier(3)
    processes = [multiprocessing.Process(target=come, args=(barrier,), name=name) for name in ("one", "two")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
