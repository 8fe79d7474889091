# shows: two processes count up a global each; both reach 6, the parent's stays 0
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: (?s)first: counter is 3.*first: counter is 6
# expect: (?s)second: counter is 3.*second: counter is 6
# expect: ^main: counter is 0$
import sys
from multiprocessing import Process, set_start_method

counter = 0


def count(name):
    global counter
    for _ in range(2):
        for _ in range(3):
            counter += 1
        print(f"{name}: counter is {counter}")


if __name__ == "__main__":
    set_start_method(sys.argv[1])
    first = Process(target=count, args=("first",))
    second = Process(target=count, args=("second",))
    first.start()
    second.start()
    first.join()
    second.join()
    print("main: counter is", counter)
