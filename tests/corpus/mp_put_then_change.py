# shows: a list is changed after put(); the getter sees it as it was when it was put
# verdict: ok
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: ^got \['before'\]$
import multiprocessing
import sys
import threading

changed = threading.Event()


class Slow:
    def __reduce__(self):
        changed.wait(0.1)
        return str, ()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue()
    words = ["before"]
    queue.put([Slow(), words])
    words.append("after")
    changed.set()
    got = queue.get()[1]
    print("got" if got == ["before"] else "WRONG: got", got)
