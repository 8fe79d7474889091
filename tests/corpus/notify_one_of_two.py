# shows: two waiters but only one notify; the other one stays
# verdict: deadlock
# plain: hang
# report: "waiter-[12]" @waits
# expect: woken: 1
# exit: 0
import threading

changed = threading.Condition()
waiting = 0
woken = 0


def wait():
    global waiting, woken
    with changed:
        waiting += 1
        changed.wait()  # @waits
        woken += 1


waiters = [threading.Thread(target=wait, name=f"waiter-{n}") for n in (1, 2)]
for waiter in waiters:
    waiter.start()
notified = False
while not notified:
    with changed:
        if waiting == 2:
            changed.notify()
            notified = True
for waiter in waiters:
    waiter.join()
print("woken:", woken)
