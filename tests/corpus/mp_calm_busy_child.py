# shows: everybody waits for a child that computes, sleeps, and reads a pipe of the system
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^got work, sleep, read$
import multiprocessing
import os
import subprocess
import sys
import time


def work(queue):
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        pass
    queue.put("work")
    time.sleep(0.7)
    queue.put("sleep")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.7)"], stdout=subprocess.PIPE) as clock:
        os.read(clock.stdout.fileno(), 1)
    queue.put("read")


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue()
    child = multiprocessing.Process(target=work, args=(queue,))
    child.start()
    print("got", ", ".join(queue.get() for _ in range(3)))
    child.join()
