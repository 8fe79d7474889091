# shows: an endless daemon consumer and a JoinableQueue; join() returns when every item is done
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^done: 10$
import multiprocessing
import sys


def consume(queue, done):
    while True:
        queue.get()
        with done.get_lock():
            done.value += 1
        queue.task_done()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.JoinableQueue()
    done = multiprocessing.Value("i", 0)
    for _ in range(2):
        multiprocessing.Process(target=consume, args=(queue, done), daemon=True).start()
    for item in range(10):
        queue.put(item)
    queue.join()
    print("done:", done.value)
