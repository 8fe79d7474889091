# shows: requests through one SimpleQueue, answers through another
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^0 1 4 9 16$
import multiprocessing
import sys


def square(requests, answers):
    while (number := requests.get()) is not None:
        answers.put(number * number)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    requests, answers = multiprocessing.SimpleQueue(), multiprocessing.SimpleQueue()
    assert requests.empty()
    worker = multiprocessing.Process(target=square, args=(requests, answers))
    worker.start()
    for number in range(5):
        requests.put(number)
    requests.put(None)
    print(*[answers.get() for _ in range(5)])
    worker.join()
    requests.close()
    answers.close()
