# shows: the only consumer fails at the second item; join() of the queue waits for the rest
# verdict: error
# plain: hang
# methods: fork spawn forkserver
# expect: ^ZeroDivisionError
# expect: ^phalanx.OwnerDied: .*exited with code 1
# exit: 1
import multiprocessing
import sys


def consume(queue):
    while True:
        print("a tenth of it:", 1 / queue.get(), flush=True)
        queue.task_done()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.JoinableQueue()
    consumer = multiprocessing.Process(target=consume, args=(queue,))
    consumer.start()
    for item in (1, 0, 2):
        queue.put(item)
    queue.join()
