# shows: a consumer forgets task_done() and ends; join() of the queue waits for ever
# verdict: error
# plain: hang
# methods: fork spawn forkserver
# expect: ^phalanx.OwnerDied: .*3 unfinished items
# exit: 1
import multiprocessing
import sys


def consume(queue):
    for _ in range(3):
        print("got", queue.get(), flush=True)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.JoinableQueue()
    consumer = multiprocessing.Process(target=consume, args=(queue,))
    consumer.start()
    for item in range(3):
        queue.put(item)
    queue.join()
