# shows: readers and writers by two locks; the first reader locks the room, the last one unlocks it
# verdict: ok
# plain: ok
# expect: version 20, every read consistent
import threading

room = threading.Lock()  # taken by the first reader and given back by the last, often another thread
count_lock = threading.Lock()
readers = 0
pair = [0, 0]
torn = []


def read():
    global readers
    for _ in range(50):
        with count_lock:
            readers += 1
            if readers == 1:
                room.acquire()
        if pair[0] != pair[1]:
            torn.append(tuple(pair))
        with count_lock:
            readers -= 1
            if readers == 0:
                room.release()


def write():
    for _ in range(10):
        with room:
            pair[0] += 1
            pair[1] += 1


threads = [threading.Thread(target=read) for _ in range(3)] + [threading.Thread(target=write) for _ in range(2)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert not torn, torn
print(f"version {pair[0]}, every read consistent")
