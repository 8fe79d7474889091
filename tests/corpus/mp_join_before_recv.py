# shows: a child sends a megabyte, the parent joins it before it receives
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^got 1000000 bytes$
import multiprocessing
import sys


def send(out_pipe):
    out_pipe.send_bytes(bytes(1_000_000))


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    in_pipe, out_pipe = multiprocessing.Pipe(False)
    child = multiprocessing.Process(target=send, args=(out_pipe,))
    child.start()
    child.join()
    print("got", len(in_pipe.recv_bytes()), "bytes")
