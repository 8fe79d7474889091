# shows: a process is killed inside Condition.wait(); notify() does not wait for it
# verdict: ok
# plain: hang
# methods: fork spawn forkserver
# expect: ^notified nobody$
import multiprocessing
import sys


def wait_for(condition, inside):
    with condition:
        inside.release()
        condition.wait()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    condition = multiprocessing.Condition()
    inside = multiprocessing.Semaphore(0)
    waiter = multiprocessing.Process(target=wait_for, args=(condition, inside))
    waiter.start()
    inside.acquire()
    with condition:  # it has let go of the lock: it waits
        waiter.kill()
        waiter.join()
        condition.notify()
    print("notified nobody")
