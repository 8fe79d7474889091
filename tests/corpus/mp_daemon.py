# shows: a daemon process is ended with its parent; it may have no children itself
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^AssertionError: daemonic processes are not allowed to have children$
# expect: ^main is done$
import multiprocessing
import sys
import time


def serve(messages):
    try:
        multiprocessing.Process(target=print).start()
    except AssertionError as error:
        messages.put(f"AssertionError: {error}")
    while True:
        time.sleep(60)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    messages = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(messages,), daemon=True)
    assert server.daemon
    server.start()
    print(messages.get())
    print("main is done")
