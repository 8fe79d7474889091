# shows: several producers, several consumers, one sentinel for each consumer
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^sum 4950, each item once$
import multiprocessing
import sys


def produce(queue, numbers):
    for number in numbers:
        queue.put(number)


def consume(queue, results):
    for number in iter(queue.get, None):
        results.put(number)
    results.put(None)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue, results = multiprocessing.Queue(), multiprocessing.Queue()
    producers = [multiprocessing.Process(target=produce, args=(queue, range(n, 100, 2))) for n in range(2)]
    consumers = [multiprocessing.Process(target=consume, args=(queue, results)) for _ in range(3)]
    for process in producers + consumers:
        process.start()
    for producer in producers:
        producer.join()
    for _ in consumers:
        queue.put(None)
    got, open_ends = [], len(consumers)
    while open_ends:
        number = results.get()
        if number is None:
            open_ends -= 1
        else:
            got.append(number)
    for consumer in consumers:
        consumer.join()
    print(f"sum {sum(got)},", "each item once" if sorted(got) == list(range(100)) else "WRONG")
