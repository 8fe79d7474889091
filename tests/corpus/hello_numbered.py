# shows: five threads started in a loop and never joined; the program still waits for them
# verdict: ok
# plain: ok
# expect: number 0
# expect: number 4
import threading


def greet(number):
    print(f"greetings from number {number}\n", end="")


if __name__ == "__main__":
    for number in range(5):
        t = threading.Thread(target=greet, args=(number,))
        t.start()
