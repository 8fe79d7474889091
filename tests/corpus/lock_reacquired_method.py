# shows: a method that holds the lock calls another that takes it too, in a thread that main joins
# verdict: deadlock
# plain: hang
# report: "teller" @holds @waits
# expect: balance 100
# exit: 0
import threading


class Account:
    def __init__(self):
        self.lock = threading.Lock()
        self.amount = 100

    def balance(self):
        with self.lock:  # @waits
            return self.amount

    def withdraw(self, amount):
        with self.lock:  # @holds
            if self.balance() >= amount:
                self.amount -= amount


account = Account()
teller = threading.Thread(target=account.withdraw, args=(30,), name="teller")
teller.start()
teller.join()
print("balance", account.balance())
