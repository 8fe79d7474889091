# shows: `if` instead of `while` round Condition.wait; two wake up for one seat
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: seats left: -1
import threading

changed = threading.Condition()
seats = 0
waiting = 0


def book():
    global seats, waiting
    with changed:
        waiting += 1
        if seats == 0:
            changed.wait()
        seats -= 1


guests = [threading.Thread(target=book) for _ in range(2)]
for guest in guests:
    guest.start()
offered = False
while not offered:
    with changed:
        if waiting == 2:
            seats = 1
            changed.notify_all()
            offered = True
for guest in guests:
    guest.join()
print("fine" if seats == 0 else f"WRONG: seats left: {seats}")
