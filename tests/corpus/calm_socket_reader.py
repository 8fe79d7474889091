# shows: main waits for a queue; two threads wait in select and recv for each other's bytes
# verdict: ok
# plain: ok
# expect: counted to 20
import queue
import select
import socket
import threading

left, right = socket.socketpair()
results = queue.Queue()


def play(end):
    while True:
        select.select([end], [], [])
        number = end.recv(1)[0]
        if number < 20:
            end.send(bytes([number + 1]))
        if number >= 19:
            break
    if number == 20:
        results.put(number)


threads = [threading.Thread(target=play, args=(end,)) for end in (left, right)]
for t in threads:
    t.start()
left.send(b"\0")
print("counted to", results.get())
for t in threads:
    t.join()
left.close()
right.close()
