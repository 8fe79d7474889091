# shows: one party fails before it reaches the barrier; the other waits for it
# verdict: deadlock
# plain: hang
# report: "patient" @waits
# expect: KeyError: 'ticket'
# expect: main is done
# exit: 0
import threading

barrier = threading.Barrier(2)


def patient():
    barrier.wait()  # @waits


def hasty():
    print("found", {}["ticket"])
    barrier.wait()


threads = [threading.Thread(target=patient, name="patient"), threading.Thread(target=hasty, name="hasty")]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("main is done")
