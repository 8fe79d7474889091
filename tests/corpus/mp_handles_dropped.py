# shows: the parent keeps no reference to a queue and an event that its children share
# verdict: ok
# plain: wrong-answer
# methods: spawn forkserver fork
# expect: ^taker got a parcel$
import gc
import multiprocessing
import sys


def give(queue, go):
    go.wait()
    queue.put("a parcel")


def take(queue, go):
    go.set()
    print("taker got", queue.get())


def start_both():
    queue, go = multiprocessing.SimpleQueue(), multiprocessing.Event()
    taker = multiprocessing.Process(target=take, args=(queue, go))
    giver = multiprocessing.Process(target=give, args=(queue, go))
    giver.start()
    taker.start()
    return giver, taker


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    processes = start_both()
    gc.collect()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        print("WRONG: a child did not find what it was given")
