# shows: a list inside a manager's dict is a copy; what a child appends to the copy is lost
# verdict: wrong-answer
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: WRONG: the list is \[\]
import multiprocessing
import sys


def add(shared):
    shared["list"].append(1)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Manager() as manager:
        shared = manager.dict({"list": []})
        child = multiprocessing.Process(target=add, args=(shared,))
        child.start()
        child.join()
        print("fine" if shared["list"] == [1] else f"WRONG: the list is {shared['list']}")
