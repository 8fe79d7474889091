# shows: one process aborts a barrier, another one times out at a barrier; who waits gets BrokenBarrierError
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^patient: broken$
# expect: ^early: broken$
import multiprocessing
import sys
import threading


def meet(barrier, name, timeout=None):
    try:
        barrier.wait(timeout)
    except threading.BrokenBarrierError:
        print(f"{name}: broken")


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    barrier = multiprocessing.Barrier(2)
    patient = multiprocessing.Process(target=meet, args=(barrier, "patient"))
    patient.start()
    barrier.abort()
    patient.join()
    barrier.reset()
    early = multiprocessing.Process(target=meet, args=(barrier, "early", 0.05))
    early.start()
    early.join()
    assert barrier.broken
