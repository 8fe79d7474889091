# shows: two processes send each other a megabyte before they receive; a kernel pipe holds 64 KiB of it
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: MainProcess got 1000000 bytes
# expect: other got 1000000 bytes
import multiprocessing
import sys


def exchange(pipe):
    pipe.send(b"x" * 1_000_000)
    got = pipe.recv()
    print(f"{multiprocessing.current_process().name} got {len(got)} bytes")


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.Process(target=exchange, args=(theirs,), name="other")
    other.start()
    exchange(ours)
    other.join()
