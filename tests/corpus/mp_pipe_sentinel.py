# shows: a producer sends ten items and a None through a one-way pipe, the consumer stops at the None
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: (?s)got an item: 0$.*got an item: 9$
import multiprocessing
import sys


def consume(in_pipe):
    while True:
        item = in_pipe.recv()
        if item is None:
            return
        print("got an item:", item)


def produce():
    pipe = multiprocessing.Pipe(False)
    consumer = multiprocessing.Process(target=consume, args=(pipe[0],))
    consumer.start()
    for item in range(10):
        pipe[1].send(item)
    pipe[1].send(None)  # done signal


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    produce()
