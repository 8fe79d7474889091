# shows: A holds a lock and joins B, B waits for an item, C wants the lock before it puts the item
# verdict: deadlock
# plain: hang
# report: "boss" @boss_holds @boss_joins "worker" @worker_gets "feeder" @feeder_waits
# reports: 1-2
# expect: main is done
# exit: 0
import queue
import threading

lock = threading.Lock()
lock_taken = threading.Event()
items = queue.Queue()


def be_boss():
    with lock:  # @boss_holds
        lock_taken.set()
        worker.join()  # @boss_joins


def be_worker():
    print("worker got", items.get())  # @worker_gets


def be_feeder():
    lock_taken.wait()
    with lock:  # @feeder_waits
        items.put("item")


worker = threading.Thread(target=be_worker, name="worker")
boss = threading.Thread(target=be_boss, name="boss")
feeder = threading.Thread(target=be_feeder, name="feeder")
for t in (worker, boss, feeder):
    t.start()
for t in (worker, boss, feeder):
    t.join()
print("main is done")
