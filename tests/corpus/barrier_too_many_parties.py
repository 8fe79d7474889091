# shows: a barrier for three, but only two threads come
# verdict: deadlock
# plain: hang
# report: "one" @one_waits "two" @two_waits
# reports: 1-2
# expect: main is done
# exit: 0
import threading

barrier = threading.Barrier(3)


def come_first():
    barrier.wait()  # @one_waits


def come_second():
    barrier.wait()  # @two_waits


threads = [threading.Thread(target=come_first, name="one"), threading.Thread(target=come_second, name="two")]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("main is done")
