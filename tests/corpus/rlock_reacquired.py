# shows: the account with an RLock; the owner may take it again
# verdict: ok
# plain: ok
# expect: balance 70
import threading


class Account:
    def __init__(self):
        self.lock = threading.RLock()
        self.amount = 100

    def balance(self):
        with self.lock:
            return self.amount

    def withdraw(self, amount):
        with self.lock:
            if self.balance() >= amount:
                self.amount -= amount


account = Account()
teller = threading.Thread(target=account.withdraw, args=(30,), name="teller")
teller.start()
teller.join()
print("balance", account.balance())
