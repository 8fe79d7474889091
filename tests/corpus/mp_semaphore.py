# shows: a semaphore lets two of five processes in at a time
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^never more than 2 inside, 5 visits$
import multiprocessing
import sys


def visit(semaphore, inside, most, visits):
    with semaphore:
        with inside.get_lock():
            inside.value += 1
            most.value = max(most.value, inside.value)
            visits.value += 1
        with inside.get_lock():
            inside.value -= 1


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    semaphore = multiprocessing.Semaphore(2)
    inside, most, visits = (multiprocessing.Value("i", 0) for _ in range(3))
    processes = [multiprocessing.Process(target=visit, args=(semaphore, inside, most, visits)) for _ in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert 1 <= most.value <= 2
    print(f"never more than 2 inside, {visits.value} visits")
