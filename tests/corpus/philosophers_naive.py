# shows: five philosophers, each takes the left fork and then waits for the right one
# verdict: deadlock
# plain: hang
# report: "Plato" "Zeno" "Thales" "Hypatia" "Diotima" @left @right
# expect: 4 have eaten
# exit: 0
import threading

names = ("Plato", "Zeno", "Thales", "Hypatia", "Diotima")
forks = [threading.Lock() for _ in names]
all_have_left = threading.Barrier(len(names))
eaten = []


def dine(seat):
    with forks[seat]:  # @left
        all_have_left.wait()
        with forks[(seat + 1) % len(forks)]:  # @right
            eaten.append(names[seat])


threads = [threading.Thread(target=dine, args=(seat,), name=name) for seat, name in enumerate(names)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(len(eaten), "have eaten")
