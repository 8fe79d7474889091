# shows: a cancelled timer never calls its function and can be joined at once
# verdict: ok
# plain: ok
# expect: called: \[\]
import threading

called = []
t = threading.Timer(30, called.append, args=["too late"])
t.start()
t.cancel()
t.join()
print("called:", called)
