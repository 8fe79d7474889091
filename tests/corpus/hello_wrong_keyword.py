# shows: `arg=` instead of `args=` when a thread is made
# verdict: error
# plain: error
# expect: TypeError: .*unexpected keyword argument 'arg'
# exit: 1
import threading


def greet(number):
    print("greetings from number", number)


if __name__ == "__main__":
    for number in range(5):
        t = threading.Thread(target=greet, arg=(number,))
        t.start()
