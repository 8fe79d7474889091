# shows: processes that all sleep, but one of them only for a while: no deadlock
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^woken after a while$
import multiprocessing
import sys


def wait_a_while(never, go):
    never.wait(1.5)
    go.set()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    never, go = multiprocessing.Event(), multiprocessing.Event()
    child = multiprocessing.Process(target=wait_a_while, args=(never, go))
    child.start()
    go.wait()
    child.join()
    print("woken after a while")
