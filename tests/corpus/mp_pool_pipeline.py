# shows: a source, two pools and a slow sink; a semaphore given back by the sink holds the source up
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^200 items in order$
# expect: ^never more than 16 under way$
import multiprocessing
import sys
import threading

AHEAD = 16


def square(number):
    return number * number


def label(number):
    return f"<{number}>"


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    room, lock = threading.BoundedSemaphore(AHEAD), threading.Lock()
    under_way = most = 0

    def source():
        global under_way, most
        for number in range(200):
            room.acquire()
            with lock:
                under_way += 1
                most = max(most, under_way)
            yield number

    arrived = []
    with multiprocessing.Pool(1) as first, multiprocessing.Pool(1) as second:
        for item in second.imap(label, first.imap(square, source())):
            arrived.append(item)
            with lock:
                under_way -= 1
            room.release()
    right = arrived == [f"<{number * number}>" for number in range(200)]
    print(f"{len(arrived)} items in order" if right else f"WRONG: {arrived[:5]}")
    print(f"never more than {AHEAD} under way" if most <= AHEAD else f"WRONG: {most} under way")
