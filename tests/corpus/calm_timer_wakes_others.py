# shows: everybody waits for what a Timer will do
# verdict: ok
# plain: ok
# expect: got from the timer
import queue
import threading

q = queue.SimpleQueue()
threading.Timer(0.1, q.put, ["from the timer"]).start()
print("got", q.get())
