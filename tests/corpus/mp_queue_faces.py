# shows: full, empty, qsize, time limits, the _nowait forms and close() of a queue
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^all as expected$
import multiprocessing
import queue as q
import sys

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue(2)
    assert queue.empty() and not queue.full() and queue.qsize() == 0
    for call in (queue.get_nowait, lambda: queue.get(False), lambda: queue.get(timeout=0.01)):
        try:
            call()
            raise AssertionError("it is empty")
        except q.Empty:
            pass
    queue.put("one")
    queue.put_nowait("two")
    assert queue.full() and queue.qsize() == 2
    for call in (lambda: queue.put_nowait(3), lambda: queue.put(3, False), lambda: queue.put(3, timeout=0.01)):
        try:
            call()
            raise AssertionError("it is full")
        except q.Full:
            pass
    assert queue.get() == "one" and queue.get(timeout=5) == "two"
    queue.close()
    queue.join_thread()
    try:
        queue.put(4)
        raise AssertionError("it is closed")
    except ValueError:
        pass
    print("all as expected")
