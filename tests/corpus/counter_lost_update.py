# shows: two threads add one to the same counter, both from the same old value
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: 1 instead of 2
import threading

counter = [0]
both_have_read = threading.Barrier(2)


def increment():
    count = counter[0]
    both_have_read.wait()
    counter[0] = count + 1


other = threading.Thread(target=increment, args=())
other.start()
increment()
other.join()
print("fine" if counter[0] == 2 else f"WRONG: {counter[0]} instead of 2")
