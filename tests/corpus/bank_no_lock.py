# shows: two deposits without a lock; one is lost
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: balance 1(10|20) instead of 130
import threading

balance = 100
both_have_read = threading.Barrier(2)


def deposit(amount):
    global balance
    old_balance = balance
    both_have_read.wait()
    balance = old_balance + amount


threads = [threading.Thread(target=deposit, args=(amount,)) for amount in (10, 20)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("fine" if balance == 130 else f"WRONG: balance {balance} instead of 130")
