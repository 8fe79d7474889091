# shows: ten thousand small messages are sent before the first is received
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^sum 49995000$
import multiprocessing
import sys


def add_up(in_pipe, go, out_pipe):
    go.wait()
    out_pipe.send(sum(in_pipe.recv() for _ in range(10_000)))


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    in_pipe, out_pipe = multiprocessing.Pipe(False)
    answer_in, answer_out = multiprocessing.Pipe(False)
    go = multiprocessing.Event()
    adder = multiprocessing.Process(target=add_up, args=(in_pipe, go, answer_out))
    adder.start()
    for number in range(10_000):
        out_pipe.send(number)
    go.set()
    print("sum", answer_in.recv())
    adder.join()
