# shows: a barrier for three, but only two threads come
# verdict: deadlock
# plain: hang
# report: "one" "two" @waits
# reports: 1-2
# expect: main is done
# exit: 0
import threading

barrier = threading.Barrier(3)


def run():
    barrier.wait()  # @waits


threads = [threading.Thread(target=run, name=name) for name in ("one", "two")]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("main is done")
