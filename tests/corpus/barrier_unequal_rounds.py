# shows: one thread does three rounds, the other two; the third round is never complete
# verdict: deadlock
# plain: hang
# report: "three-rounds" @waits
# expect: main is done
# exit: 0
import threading

barrier = threading.Barrier(2)


def rounds(count):
    for _ in range(count):
        barrier.wait()  # @waits


threads = [
    threading.Thread(target=rounds, args=(3,), name="three-rounds"),
    threading.Thread(target=rounds, args=(2,), name="two-rounds"),
]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("main is done")
