# shows: a thread object can be started only once
# verdict: error
# plain: error
# expect: RuntimeError: threads can only be started once
# exit: 1
import threading

t = threading.Thread(target=print, args=("only once",))
t.start()
t.join()
t.start()
