# shows: two consumers, one sentinel; the second one waits for ever
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "consumer-\d" @gets
# reports: 1-2
import multiprocessing
import sys


def consume(queue):
    while queue.get() is not None:  # @gets
        pass


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue()
    consumers = [multiprocessing.Process(target=consume, args=(queue,), name=f"consumer-{n}") for n in range(2)]
    for consumer in consumers:
        consumer.start()
    for item in [1, 2, 3, None]:
        queue.put(item)
    for consumer in consumers:
        consumer.join()
