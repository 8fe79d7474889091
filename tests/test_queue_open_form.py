"""A queue that moves to its open form while it is used: nothing lost, nothing doubled, nobody stuck."""

from __future__ import annotations

import pytest
from tests.programs import run


def test_the_idioms_of_the_standard_library() -> None:
    program = """
    q = queue.Queue(2)
    q.put(1); q.put(2)
    with q.mutex:
        q.queue.clear()
        q.unfinished_tasks = 0
        q.not_full.notify_all()
    q.join(); q.put(3)
    with q.not_empty:
        while not q.queue: q.not_empty.wait()
        assert list(q.queue) == [3]
    assert (q.qsize(), q.unfinished_tasks, q.full()) == (1, 1, False)
    negative = queue.Queue(-1)
    for n in range(100): negative.put_nowait(n)
    """
    assert run(program) == (0, "", "")


@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue"])
def test_opened_under_load(kind: str) -> None:
    program = """
    sys.setswitchinterval(1e-6)
    q, n, got, lock = getattr(queue, sys.argv[1])(5), 300, [], threading.Lock()
    def put(base):
        for k in range(n): q.put(base + k)
    def get():
        for _ in range(n):
            item = q.get()
            with lock: got.append(item)
            q.task_done()
    threads = [threading.Thread(target=put, args=(k * n,)) for k in range(4)]
    threads += [threading.Thread(target=get) for _ in range(4)]
    for thread in threads: thread.start()
    while len(got) < n: time.sleep(0)
    q.mutex
    q.join()
    for thread in threads: thread.join()
    assert sorted(got) == list(range(4 * n)), len(got)
    assert q.qsize() == q.unfinished_tasks == 0
    """
    assert run(program, kind) == (0, "", "")


@pytest.mark.parametrize("opened", ["", "q.mutex"])
def test_shutdown_wakes_who_waits(opened: str) -> None:
    program = f"""
    q, ended = queue.Queue(), []
    {opened or "pass"}
    def get():
        try: q.get()
        except queue.ShutDown if hasattr(queue, "ShutDown") else Exception: ended.append(1)
    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads: thread.start()
    q.shutdown()
    for thread in threads: thread.join()
    assert len(ended) == 4
    """
    assert run(program) == (0, "", "")


def test_a_hook_may_make_another_queue() -> None:
    program = """
    class Inner(queue.Queue):
        def _put(self, item): self.queue.append(item)
    class Outer(queue.Queue):
        def _init(self, maxsize): self.inner = Inner()
        def _qsize(self): return self.inner.qsize()
        def _put(self, item): self.inner.put(item)
        def _get(self): return self.inner.get()
    q = Outer(); q.put(1)
    print(q.get())
    """
    assert run(program) == (0, "1\n", "")


def test_a_heap_opened_in_the_middle_of_a_put() -> None:
    # The putter stops in a comparison of the native heap; the opener, having copied the root, stops in one of its own;
    # then the putter moves its item to the root, which the opener has passed.
    program = """
    stops = {name: (threading.Event(), threading.Event()) for name in ("putter", "opener")}
    class Item:
        def __init__(self, n): self.n = n
        def __lt__(self, other):
            stop = stops.pop(threading.current_thread().name, None)
            if stop is not None:
                stop[0].set(); stop[1].wait(2)
            return self.n < other.n
    q, (reached, go), (copying, copy) = queue.PriorityQueue(), stops["putter"], stops["opener"]
    for n in (5, 6, 7): q.put(Item(n))
    putter = threading.Thread(target=lambda: q.put(Item(1)), name="putter"); putter.start()
    reached.wait()
    opener = threading.Thread(target=lambda: q.mutex, name="opener"); opener.start()
    copying.wait(1); go.set(); putter.join(); copy.set(); opener.join()
    print(sorted(item.n for item in q.queue), q.unfinished_tasks)
    """
    assert run(program) == (0, "[1, 5, 6, 7] 4\n", "")
