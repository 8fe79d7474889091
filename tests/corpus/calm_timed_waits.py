# shows: waits with a time limit while nobody could ever wake them. They end by themselves
# verdict: ok
# plain: ok
# expect: 10 waits ended in time
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait

LIMIT = 0.02
ended = 0


def expect(value, wanted):
    global ended
    assert value == wanted, (value, wanted)
    ended += 1


lock, rlock = threading.Lock(), threading.RLock()
lock.acquire()
expect(lock.acquire(timeout=LIMIT), False)
with ThreadPoolExecutor(1) as pool:
    pool.submit(rlock.acquire).result()
    expect(rlock.acquire(timeout=LIMIT), False)
condition = threading.Condition()
with condition:
    expect(condition.wait(LIMIT), False)
    expect(condition.wait_for(lambda: False, LIMIT), False)
expect(threading.Event().wait(LIMIT), False)
expect(threading.Semaphore(0).acquire(timeout=LIMIT), False)
stop = threading.Event()
sleeper = threading.Thread(target=stop.wait)
sleeper.start()
sleeper.join(LIMIT)
expect(sleeper.is_alive(), True)
stop.set()
sleeper.join()
try:
    threading.Barrier(2).wait(LIMIT)
except threading.BrokenBarrierError:
    ended += 1
try:
    queue.Queue().get(timeout=LIMIT)
except queue.Empty:
    ended += 1
expect(len(wait([Future()], timeout=LIMIT).not_done), 1)
print(ended, "waits ended in time")
