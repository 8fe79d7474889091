# shows: a task submits to the pool that runs it, and waits; all workers are busy with such tasks
# verdict: ok
# plain: hang
# methods: fork
# expect: ^(25|refused)$
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

executor = None


def square(number):
    return number * number


def hypotenuse(a, b):
    return executor.submit(square, a).result() + executor.submit(square, b).result()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with ProcessPoolExecutor(1) as executor:
        try:
            print(executor.submit(hypotenuse, 3, 4).result())
        except RuntimeError:
            print("refused")
