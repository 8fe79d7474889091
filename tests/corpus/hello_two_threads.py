# shows: a second thread and the main one say hello, in any order
# verdict: ok
# plain: ok
# expect: hello from
# expect: MainThread
# expect: Thread-1
import threading


def say_hello():
    print("hello from", threading.current_thread().name)


def greet_from_both():
    other = threading.Thread(target=say_hello, args=())
    other.start()
    say_hello()


greet_from_both()
