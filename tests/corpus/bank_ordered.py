# shows: transfers both ways that lock the account with the lower number first
# verdict: ok
# plain: ok
# expect: balances 100 100
import threading


class Account:
    def __init__(self, number, balance):
        self.number = number
        self.balance = balance
        self.lock = threading.Lock()


def transfer(source, target, amount):
    first, second = sorted((source, target), key=lambda account: account.number)
    with first.lock, second.lock:
        source.balance -= amount
        target.balance += amount


def many(source, target):
    for _ in range(2000):
        transfer(source, target, 1)


a, b = Account(1, 100), Account(2, 100)
threads = [threading.Thread(target=many, args=pair) for pair in ((a, b), (b, a))]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("balances", a.balance, b.balance)
