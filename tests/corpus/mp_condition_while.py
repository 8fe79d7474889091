# shows: a bounded buffer in an Array under a Condition, producer and consumer in two processes
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^took 0 to 99 in order$
import multiprocessing
import sys

ROOM = 4


def produce(buffer, counts, changed, number):
    for item in range(number):
        with changed:
            changed.wait_for(lambda: counts[0] - counts[1] < ROOM)
            buffer[counts[0] % ROOM] = item
            counts[0] += 1
            changed.notify()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    buffer = multiprocessing.Array("i", ROOM, lock=False)
    counts = multiprocessing.Array("i", 2, lock=False)  # put, taken
    changed = multiprocessing.Condition()
    producer = multiprocessing.Process(target=produce, args=(buffer, counts, changed, 100))
    producer.start()
    took = []
    while len(took) < 100:
        with changed:
            while counts[0] == counts[1]:
                changed.wait()
            took.append(buffer[counts[1] % ROOM])
            counts[1] += 1
            changed.notify()
    producer.join()
    print("took 0 to 99 in order" if took == list(range(100)) else f"WRONG: {took}")
