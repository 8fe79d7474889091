# shows: a producer ends without a done signal and keeps its end of the pipe open; the consumer waits for more
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "consumer" @receives
# reports: 1-2
# expect: got an item: 2
import multiprocessing
import sys


def consume(in_pipe):
    while True:
        print("got an item:", in_pipe.recv(), flush=True)  # @receives


def produce():
    pipe = multiprocessing.Pipe(False)
    consumer = multiprocessing.Process(target=consume, args=(pipe[0],), name="consumer")
    consumer.start()
    for item in range(3):
        pipe[1].send(item)
    consumer.join()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    produce()
