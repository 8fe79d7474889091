# shows: each of two threads waits for the event that the other sets afterwards
# verdict: deadlock
# plain: hang
# report: "hen" "egg" @waits
# expect: main is done
# exit: 0
import threading

hen_there = threading.Event()
egg_there = threading.Event()


def come(needed, announced):
    try:
        needed.wait()  # @waits
    finally:
        announced.set()


hen = threading.Thread(target=come, args=(egg_there, hen_there), name="hen")
egg = threading.Thread(target=come, args=(hen_there, egg_there), name="egg")
hen.start()
egg.start()
hen.join()
egg.join()
print("main is done")
