# shows: one of twenty tasks kills its worker; the other nineteen are done
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^19 right, lost: \['WorkerDied'\]$
import multiprocessing
import os
import signal
import sys


def square(number):
    if number == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    right, lost = 0, []
    with multiprocessing.Pool(2) as pool:
        results = [pool.apply_async(square, (number,)) for number in range(20)]
        for number, result in enumerate(results):
            try:
                right += result.get() == number * number
            except Exception as error:
                lost.append(type(error).__name__)
    print(f"{right} right, lost: {lost}")
