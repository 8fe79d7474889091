# shows: two threads join each other through globals; main does not even wait
# verdict: deadlock
# plain: hang
# report: "Thread-1 \(func1\)" @join2 "Thread-2 \(func2\)" @join1
# expect: completes
# exit: 0
import threading

both_run = threading.Barrier(2)


def func1():
    both_run.wait()
    print(f"{threading.current_thread().name} waits for {t2.name}\n")
    t2.join()  # @join2
    print(f"{threading.current_thread().name} completes\n")


def func2():
    both_run.wait()
    print(f"{threading.current_thread().name} waits for {t1.name}\n")
    t1.join()  # @join1
    print(f"{threading.current_thread().name} completes\n")


t1 = threading.Thread(target=func1)
t2 = threading.Thread(target=func2)
t1.start()
t2.start()
print("one of the two will never complete")
