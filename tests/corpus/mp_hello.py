# shows: a second process and the main one say hello, in any order
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: hello from MainProcess
# expect: hello from Process-1
import multiprocessing
import sys


def say_hello():
    print(f"hello from {multiprocessing.current_process().name}")


def greet_from_both():
    other = multiprocessing.Process(target=say_hello, args=())
    other.start()
    say_hello()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    greet_from_both()
