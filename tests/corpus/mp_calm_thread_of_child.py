# shows: the main thread of a child sleeps for ever in a wait, a thread of it serves everybody
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^answers: \[0, 1, 4\]$
import multiprocessing
import sys
import threading
import time


def answer(requests, answers, over):
    for number in iter(requests.get, None):
        time.sleep(0.3)
        answers.put(number * number)
    over.set()


def serve(requests, answers):
    over = threading.Event()
    threading.Thread(target=answer, args=(requests, answers, over)).start()
    over.wait()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    requests, answers = multiprocessing.Queue(), multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(requests, answers))
    server.start()
    got = []
    for number in range(3):
        requests.put(number)
        got.append(answers.get())
    requests.put(None)
    server.join()
    print("answers:", got)
