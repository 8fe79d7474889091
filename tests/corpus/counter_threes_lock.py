# shows: acquire(True) round three increments and the print that follows: 3, 6, 9, 12
# verdict: ok
# plain: ok
# expect: (?s)counter is 3\b.*counter is 6\b.*counter is 9\b.*counter is 12\b
import threading

by_three = threading.Lock()
counter = 0


def incrementer(name):
    global counter
    for _ in range(2):
        by_three.acquire(True)
        for _ in range(3):
            counter += 1
            print(f"{name} adds one")
        print(f"counter is {counter}")
        by_three.release()


if __name__ == "__main__":
    t1 = threading.Thread(target=incrementer, args=("first",))
    t2 = threading.Thread(target=incrementer, args=("second",))
    t1.start()
    t2.start()
