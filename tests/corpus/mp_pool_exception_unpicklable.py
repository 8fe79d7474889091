# shows: the exception of a task carries what cannot be pickled; its words arrive all the same
# verdict: ok
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: ^told: \w+: .*stopped at seven
import multiprocessing
import sys


class Stopped(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.rest = (number for number in range(3))


def work(number):
    raise Stopped("stopped at seven")


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        try:
            pool.map(work, range(1))
        except Exception as error:
            told = f"{type(error).__name__}: {error}".splitlines()[0]
            print("told:" if "stopped at seven" in str(error) else "WRONG: the words are gone:", told)
