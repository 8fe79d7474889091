# shows: a failing party aborts the barrier, a late one times out; the others get BrokenBarrierError
# verdict: ok
# plain: ok
# expect: patient: broken
# expect: early: broken
import threading


def meet(barrier, name, timeout=None):
    try:
        barrier.wait(timeout)
    except threading.BrokenBarrierError:
        print(f"{name}: broken")


aborted = threading.Barrier(2)
patient = threading.Thread(target=meet, args=(aborted, "patient"))
patient.start()
aborted.abort()
patient.join()

late = threading.Barrier(2)
early = threading.Thread(target=meet, args=(late, "early", 0.02))
early.start()
early.join()
assert late.broken
late.reset()
assert not late.broken
