# shows: a transfer from A to B and one from B to A, each locks the source first
# verdict: deadlock
# plain: hang
# report: "a to b" "b to a" @source @target
# expect: sum 200
# exit: 0
import threading


class Account:
    def __init__(self, balance):
        self.balance = balance
        self.lock = threading.Lock()


def transfer(source, target, amount):
    with source.lock:  # @source
        source_locked.wait()
        with target.lock:  # @target
            source.balance -= amount
            target.balance += amount


source_locked = threading.Barrier(2)
a, b = Account(100), Account(100)
threads = [
    threading.Thread(target=transfer, args=(a, b, 10), name="a to b"),
    threading.Thread(target=transfer, args=(b, a, 20), name="b to a"),
]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("sum", a.balance + b.balance)
