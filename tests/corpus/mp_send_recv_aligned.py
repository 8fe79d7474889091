# shows: one process sends first, the other receives first: a megabyte both ways
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: MainProcess got 1000000 bytes
# expect: other got 1000000 bytes
import multiprocessing
import sys


def exchange(pipe, send_first):
    if send_first:
        pipe.send(b"x" * 1_000_000)
    got = pipe.recv()
    if not send_first:
        pipe.send(got)
    print(f"{multiprocessing.current_process().name} got {len(got)} bytes")


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.Process(target=exchange, args=(theirs, False), name="other")
    other.start()
    exchange(ours, True)
    other.join()
