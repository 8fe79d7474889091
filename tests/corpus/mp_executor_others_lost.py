# shows: one of twenty tasks of an executor kills its worker; the others have nothing to do with it
# verdict: ok
# plain: wrong-answer
# methods: fork spawn
# expect: ^19 right, lost: WorkerDied$
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor

gate = None


def share(lock):
    global gate
    gate = lock


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def square(number):
    with gate:
        return number * number


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.Lock()
    lock.acquire()
    with ProcessPoolExecutor(2, initializer=share, initargs=(lock,)) as executor:
        victim = executor.submit(die)
        others = [executor.submit(square, number) for number in range(19)]
        lost = type(victim.exception()).__name__
        lock.release()
        right = sum(not other.exception() and other.result() == number**2 for number, other in enumerate(others))
    print(f"{right} right, lost: {lost}" if right == 19 else f"WRONG: {right} right, after {lost}")
