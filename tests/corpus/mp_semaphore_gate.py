# shows: permits given by one process and taken by another, no process gives back what it took
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^passed 500 times$
import multiprocessing
import sys


def pass_through(mine, yours, times):
    for _ in range(times):
        mine.acquire()
        yours.release()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    ping, pong = multiprocessing.Semaphore(0), multiprocessing.Semaphore(0)
    other = multiprocessing.Process(target=pass_through, args=(ping, pong, 500))
    other.start()
    for _ in range(500):
        ping.release()
        pong.acquire()
    other.join()
    print("passed 500 times")
