# shows: an item that cannot be pickled is an error in put(), not a lost item and a getter that waits for ever
# verdict: error
# plain: hang
# methods: fork spawn forkserver
# expect: (?i)(cannot|can't) pickle
# exit: 1
import multiprocessing
import sys
import threading

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue()
    queue.put(threading.Lock())
    print("got", queue.get())
