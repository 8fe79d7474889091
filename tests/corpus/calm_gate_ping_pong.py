# shows: two locks as gates, each released by the thread that did not take it, a thousand times
# verdict: ok
# plain: ok
# expect: 1000 rounds
import threading

ping, pong = threading.Lock(), threading.Lock()
ping.acquire()
pong.acquire()
rounds = 0


def answer():
    for _ in range(1000):
        ping.acquire()
        pong.release()


answering = threading.Thread(target=answer)
answering.start()
for _ in range(1000):
    ping.release()
    pong.acquire()
    rounds += 1
answering.join()
print(rounds, "rounds")
