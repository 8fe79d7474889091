# shows: a child appends to a list of its parent; each process has a list of its own
# verdict: wrong-answer
# plain: wrong-answer
# methods: fork spawn forkserver
# expect: ^in the child \['OLD', 'NEW'\]$
# expect: ^WRONG: in the parent \['OLD'\]$
import multiprocessing
import sys


def add_element(items):
    items.append("NEW")
    print("in the child", items)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    items = ["OLD"]
    child = multiprocessing.Process(target=add_element, args=(items,))
    child.start()
    child.join()
    print("fine" if "NEW" in items else f"WRONG: in the parent {items}")
