# shows: is_alive, join with a time limit, terminate, kill, close and the exit codes afterwards
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^True None, then False -15, False -9$
# expect: ^ValueError: process object is closed$
import multiprocessing
import sys
import time


def sleep_long():
    time.sleep(60)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    one, two = (multiprocessing.Process(target=sleep_long) for _ in range(2))
    one.start()
    two.start()
    one.join(0.05)
    before = f"{one.is_alive()} {one.exitcode}"
    one.terminate()
    two.kill()
    one.join()
    two.join()
    print(f"{before}, then {one.is_alive()} {one.exitcode}, {two.is_alive()} {two.exitcode}")
    one.close()
    try:
        one.is_alive()
    except ValueError as error:
        print("ValueError:", error)
