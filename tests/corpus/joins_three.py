# shows: three threads join one another in a ring
# verdict: deadlock
# plain: hang
# report: "one" "two" "three" @joins
# expect: main is done
# exit: 0
import threading

all_run = threading.Barrier(3)


def wait_for(n):
    all_run.wait()
    threads[n].join()  # @joins


threads = [
    threading.Thread(target=wait_for, args=((n + 1) % 3,), name=name) for n, name in enumerate(("one", "two", "three"))
]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("main is done")
