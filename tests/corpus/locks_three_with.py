# shows: three threads in a ring, each holds one lock and waits for the next, by `with`
# verdict: deadlock
# plain: hang
# report: "one" "two" "three" @holds @waits
# expect: main is done
# exit: 0
import threading

locks = [threading.Lock() for _ in range(3)]
each_has_one = threading.Barrier(3)


def work(n):
    with locks[n]:  # @holds
        each_has_one.wait()
        with locks[(n + 1) % 3]:  # @waits
            print(n, "has both")


threads = [threading.Thread(target=work, args=(n,), name=name) for n, name in enumerate(("one", "two", "three"))]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("main is done")
