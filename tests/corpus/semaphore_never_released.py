# shows: connections that are opened and never given back; the next one waits for ever
# verdict: deadlock
# plain: hang
# report: "client-3" @waits
# expect: main is done
# exit: 0
import threading

limit = threading.Semaphore(2)


def connect():
    limit.acquire()  # @waits
    print(threading.current_thread().name, "is connected and forgets to release")


for n in (1, 2, 3):
    client = threading.Thread(target=connect, name=f"client-{n}")
    client.start()
    client.join()
print("main is done")
