# shows: one of twenty tasks of an executor kills its worker; the others have nothing to do with it
# verdict: ok
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: ^19 right, lost: WorkerDied$
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor

gate = go = None


def share(*locks):
    global gate, go
    gate, go = locks


def die():
    go.acquire()
    go.release()
    os.kill(os.getpid(), signal.SIGKILL)


def square(number):
    with gate:
        return number * number


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock, start = multiprocessing.Lock(), multiprocessing.Lock()
    lock.acquire()
    start.acquire()
    with ProcessPoolExecutor(2, initializer=share, initargs=(lock, start)) as executor:
        victim = executor.submit(die)
        others = [executor.submit(square, number) for number in range(19)]
        start.release()
        lost = type(victim.exception()).__name__
        lock.release()
        right = sum(not other.exception() and other.result() == number**2 for number, other in enumerate(others))
    print(f"{right} right, lost: {lost}" if right == 19 else f"WRONG: {right} right, after {lost}")
