# shows: seven greetings by a pool of three processes: apply, map, map_async, imap, imap_unordered, starmap
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^apply: Hello Ada!$
# expect: ^map: 7 in order by at most 3 processes$
# expect: ^map_async: 7 in order$
# expect: ^imap: 7 in order, unordered: 7$
# expect: ^starmap: Good morning Ada! Good evening Tom!$
import os
import sys
from multiprocessing import Pool, set_start_method


def greet(name, greeting="Hello"):
    return f"{greeting} {name}!"


def greet_from(name):
    return os.getpid(), greet(name)


if __name__ == "__main__":
    set_start_method(sys.argv[1])
    names = ["Ada", "Blaise", "Chiara", "Dirk", "Emmy", "Fatima", "Tom"]
    wanted = [f"Hello {name}!" for name in names]
    with Pool(processes=3) as pool:
        print("apply:", pool.apply(greet, ("Ada",)))
        pids, greetings = zip(*pool.map(greet_from, names))
        order = "in order" if list(greetings) == wanted else "WRONG"
        print(f"map: {len(greetings)} {order} by at most 3 processes" if len(set(pids)) <= 3 else "WRONG: processes")
        later = pool.map_async(greet, names)
        later.wait()
        print("map_async:", len(later.get()), "in order" if later.get() == wanted else "WRONG")
        one_by_one = list(pool.imap(greet, names, chunksize=2))
        unordered = sorted(pool.imap_unordered(greet, names))
        assert one_by_one == wanted and unordered == wanted
        print(f"imap: {len(one_by_one)} in order, unordered: {len(unordered)}")
        print("starmap:", *pool.starmap(greet, [("Ada", "Good morning"), ("Tom", "Good evening")]))
