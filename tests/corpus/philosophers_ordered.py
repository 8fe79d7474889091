# shows: the same table, each philosopher takes the fork with the lower number first
# verdict: ok
# plain: ok
# expect: meals \[50, 50, 50, 50, 50\]
import threading

forks = [threading.Lock() for _ in range(5)]
meals = [0] * 5


def dine(seat):
    low, high = sorted((seat, (seat + 1) % 5))
    for _ in range(50):
        with forks[low], forks[high]:
            meals[seat] += 1


threads = [threading.Thread(target=dine, args=(seat,)) for seat in range(5)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("meals", meals)
