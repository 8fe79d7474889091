# shows: a consumer spins on a list used as a flag, without any lock
# verdict: ok
# plain: ok
# expect: items is \[0, 1, 2, 3, 4, 5, 6, 7, 8, 9\]
import threading

items = []
flag = []


def consume():
    while not flag:
        pass
    print("items is", items)


def produce():
    consumer = threading.Thread(target=consume, args=())
    consumer.start()
    for i in range(10):
        items.append(i)
    flag.append("go")


produce()
