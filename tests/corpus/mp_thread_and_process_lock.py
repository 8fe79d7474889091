# shows: a circle of a thread's lock and a process lock: two threads here, one process there
# verdict: deadlock
# plain: hang
# methods: fork
# report: "MainProcess" "child" @holder_wants @child_wants
# reports: 1-3
import multiprocessing
import sys
import threading


def child_work(shared, ready, answer):
    with shared:
        ready.set()
        answer.get()  # @child_wants


def hold(local, held, shared):
    with local:
        held.set()
        with shared:  # @holder_wants
            pass


multiprocessing.set_start_method(sys.argv[1])
shared, ready, answer = multiprocessing.Lock(), multiprocessing.Event(), multiprocessing.Queue()
child = multiprocessing.Process(target=child_work, args=(shared, ready, answer), name="child")
child.start()
ready.wait()
local, held = threading.Lock(), threading.Event()
holder = threading.Thread(target=hold, args=(local, held, shared), name="holder")
holder.start()
held.wait()
with local:
    answer.put("never")
holder.join()
child.join()
