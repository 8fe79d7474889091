# shows: opposite order, but the second lock is only tried: with a limit, or not at all when it is taken
# verdict: ok
# plain: ok
# expect: both got both
import threading

red = threading.Lock()
blue = threading.Lock()
each_has_one = threading.Barrier(2)
got_both = []


def take_both(first, second, **how):
    first_time = True
    while True:
        with first:
            if first_time:
                first_time = False
                each_has_one.wait()
            if second.acquire(**how):
                got_both.append(threading.current_thread().name)
                second.release()
                return


left = threading.Thread(target=take_both, args=(red, blue), kwargs={"timeout": 0.02})
right = threading.Thread(target=take_both, args=(blue, red), kwargs={"blocking": False})
left.start()
right.start()
left.join()
right.join()
assert len(got_both) == 2
print("both got both")
