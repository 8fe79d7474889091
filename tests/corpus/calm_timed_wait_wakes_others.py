# shows: everybody is asleep, one of them with a time limit; afterwards it wakes the rest
# verdict: ok
# plain: ok
# expect: all woken
import threading

never = threading.Event()
go = threading.Event()


def wait_then_wake():
    never.wait(0.1)
    go.set()


threads = [threading.Thread(target=go.wait) for _ in range(3)]
threads.append(threading.Thread(target=wait_then_wake))
for t in threads:
    t.start()
for t in threads:
    t.join()
print("all woken")
