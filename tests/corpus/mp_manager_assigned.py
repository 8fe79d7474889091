# shows: a list inside a manager's dict is changed by assigning it again, or is a manager's list itself
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^assigned \[1\], nested \[1\], n 5$
import multiprocessing
import sys


def add(shared, lock):
    copy = shared["plain"]
    copy.append(1)
    shared["plain"] = copy
    shared["nested"].append(1)
    with lock:
        shared["n"] += 5


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Manager() as manager:
        shared = manager.dict({"plain": [], "nested": manager.list(), "n": 0})
        lock = manager.Lock()
        child = multiprocessing.Process(target=add, args=(shared, lock))
        child.start()
        child.join()
        print(f"assigned {shared['plain']}, nested {list(shared['nested'])}, n {shared['n']}")
