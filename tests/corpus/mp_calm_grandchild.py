# shows: a grandchild sets what its grandparent waits for; the child between them waits for its end
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^set by Process-1:1$
import multiprocessing
import sys
import time


def set_later(go, name):
    time.sleep(0.7)
    name.value = multiprocessing.current_process().name.encode()
    go.set()


def start_another(go, name):
    grandchild = multiprocessing.Process(target=set_later, args=(go, name))
    grandchild.start()
    grandchild.join()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    go = multiprocessing.Event()
    name = multiprocessing.Array("c", 20)
    child = multiprocessing.Process(target=start_another, args=(go, name))
    child.start()
    go.wait()
    child.join()
    print("set by", name.value.decode())
