# shows: two permits, and two threads that need both of them
# verdict: deadlock
# plain: hang
# report: "left" "right" @waits
# expect: has both
# expect: main is done
# exit: 0
import threading

permits = threading.Semaphore(2)
each_has_one = threading.Barrier(2)


def work():
    with permits:
        each_has_one.wait()
        with permits:  # @waits
            print("has both")


threads = [threading.Thread(target=work, name=name) for name in ("left", "right")]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("main is done")
