# shows: assignment and check of a shared global under one lock given as an argument
# verdict: ok
# plain: ok
# expect: ^completed$
import threading

x = 0


def func(v, lock):
    global x
    for _ in range(20_000):
        with lock:
            x = v
            if x != v:
                print(f"WRONG: {threading.current_thread().name} v: {v} x: {x}")


lock_object = threading.Lock()
t1 = threading.Thread(target=func, args=(1, lock_object))
t2 = threading.Thread(target=func, args=(2, lock_object))
t1.start()
t2.start()
t1.join()
t2.join()
print("completed")
