# shows: a program that survives its deadlock: the thread told so lets go and tries again
# verdict: deadlock
# plain: hang
# reports: 0
# expect: tries again after DeadlockError
# expect: balances 110 90
# exit: 0
import threading


class Account:
    def __init__(self, balance):
        self.balance = balance
        self.lock = threading.Lock()


def transfer(source, target, amount, hand_shake):
    with source.lock:
        hand_shake()
        with target.lock:
            source.balance -= amount
            target.balance += amount


def insist(source, target, amount):
    hand_shake = source_locked.wait  # for the first try only
    while True:
        try:
            return transfer(source, target, amount, hand_shake)
        except Exception as error:
            print("tries again after", type(error).__name__)
            hand_shake = list  # does nothing


source_locked = threading.Barrier(2)
a, b = Account(100), Account(100)
threads = [
    threading.Thread(target=insist, args=(a, b, 10), name="a to b"),
    threading.Thread(target=insist, args=(b, a, 20), name="b to a"),
]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("balances", a.balance, b.balance)
