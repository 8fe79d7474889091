# shows: releasing a lock that nobody holds, and a bounded semaphore too often
# verdict: error
# plain: error
# methods: fork spawn forkserver
# expect: ^first ValueError$
# expect: ^ValueError: semaphore or lock released too many times$
# exit: 1
import multiprocessing
import sys

multiprocessing.set_start_method(sys.argv[1])
try:
    multiprocessing.BoundedSemaphore(2).release()
except ValueError:
    print("first ValueError")
multiprocessing.Lock().release()
