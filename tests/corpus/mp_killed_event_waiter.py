# shows: a process is killed inside Event.wait(); set() does not wait for it
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^set$
import multiprocessing
import sys
import time


def wait_for(event, started):
    started.release()
    event.wait()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    event = multiprocessing.Event()
    started = multiprocessing.Semaphore(0)
    waiter = multiprocessing.Process(target=wait_for, args=(event, started))
    waiter.start()
    started.acquire()
    time.sleep(0.3)  # now it sits in wait()
    waiter.kill()
    waiter.join()
    event.set()
    print("set" if event.is_set() else "WRONG: not set")
