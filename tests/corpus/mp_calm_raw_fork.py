# shows: a process made by os.fork, without multiprocessing, puts what everybody waits for
# verdict: ok
# plain: ok
# methods: fork
# expect: ^got a parcel$
import multiprocessing
import os
import sys
import time


def wait_for(queue, answer):
    answer.put(queue.get())


multiprocessing.set_start_method(sys.argv[1])
queue, answer = multiprocessing.SimpleQueue(), multiprocessing.SimpleQueue()
child = multiprocessing.Process(target=wait_for, args=(queue, answer))
child.start()
pid = os.fork()
if pid == 0:
    time.sleep(1)
    queue.put("a parcel")
    os._exit(0)
print("got", answer.get())
os.waitpid(pid, 0)
child.join()
