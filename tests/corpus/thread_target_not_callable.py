# shows: a target that cannot be called fails in the new thread, not in main
# verdict: error
# plain: error
# expect: TypeError: 'int' object is not callable
# expect: main is fine
# exit: 0
import threading

t = threading.Thread(target=42)
t.start()
t.join()
print("main is fine")
