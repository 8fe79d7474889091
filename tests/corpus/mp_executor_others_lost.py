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

known = None


def share(event):
    global known
    known = event


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def square(number):
    known.wait()
    return number * number


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    event = multiprocessing.Event()
    with ProcessPoolExecutor(2, initializer=share, initargs=(event,)) as executor:
        victim = executor.submit(die)
        others = [executor.submit(square, number) for number in range(19)]
        lost = type(victim.exception()).__name__
        event.set()
        right = sum(not other.exception() and other.result() == number**2 for number, other in enumerate(others))
    print(f"{right} right, lost: {lost}" if right == 19 else f"WRONG: {right} right, after {lost}")
