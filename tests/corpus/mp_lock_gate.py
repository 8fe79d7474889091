# shows: a Lock taken in one process is released by another one, which is allowed
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^opened from outside$
import multiprocessing
import sys


def open_gate(gate):
    gate.release()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    gate = multiprocessing.Lock()
    gate.acquire()
    opener = multiprocessing.Process(target=open_gate, args=(gate,))
    opener.start()
    gate.acquire()
    opener.join()
    gate.release()
    print("opened from outside")
