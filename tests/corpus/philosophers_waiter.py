# shows: the same table, a waiter lets only four of the five sit down at a time
# verdict: ok
# plain: ok
# expect: meals \[50, 50, 50, 50, 50\]
import threading

forks = [threading.Lock() for _ in range(5)]
waiter = threading.Semaphore(4)
meals = [0] * 5


def dine(seat):
    for _ in range(50):
        with waiter, forks[seat], forks[(seat + 1) % 5]:
            meals[seat] += 1


threads = [threading.Thread(target=dine, args=(seat,)) for seat in range(5)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("meals", meals)
