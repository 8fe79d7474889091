# shows: two readers want to write without ending their read; each waits for the other to leave
# verdict: deadlock
# plain: hang
# report: "first" "second" @waits
# expect: writes: 1
# exit: 0
import threading

changed = threading.Condition()
readers = 0
writes = 0
both_read = threading.Barrier(2)


def read_then_write():
    global readers, writes
    with changed:
        readers += 1
    both_read.wait()
    try:
        with changed:
            while readers > 1:
                changed.wait()  # @waits
            writes += 1
    finally:
        with changed:
            readers -= 1
            changed.notify_all()


threads = [threading.Thread(target=read_then_write, name=name) for name in ("first", "second")]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("writes:", writes)
