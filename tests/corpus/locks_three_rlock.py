# shows: a ring of three threads and three RLocks, each taken twice
# verdict: deadlock
# plain: hang
# report: "one" "two" "three" @holds @waits
# expect: main is done
# exit: 0
import threading

locks = [threading.RLock() for _ in range(3)]
each_has_one = threading.Barrier(3)


def work(mine, next_one):
    with mine, mine:  # @holds
        each_has_one.wait()
        with next_one:  # @waits
            print("has both")


threads = [
    threading.Thread(target=work, args=(locks[n], locks[(n + 1) % 3]), name=name)
    for n, name in enumerate(("one", "two", "three"))
]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("main is done")
