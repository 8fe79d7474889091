# shows: wait and notify on a Condition whose lock is not held
# verdict: error
# plain: error
# expect: cannot notify on un-acquired lock
# expect: RuntimeError: cannot wait on un-acquired lock
# exit: 1
import threading

condition = threading.Condition()
try:
    condition.notify()
except RuntimeError as error:
    print(error)
condition.wait()
