# shows: put on a full queue while holding the lock that the consumer takes before get
# verdict: deadlock
# plain: hang
# report: "writer" @writer_holds @writer_puts "reader" @reader_waits
# reports: 1-2
# exit: 0
import queue
import threading

q = queue.Queue(maxsize=1)
log_lock = threading.Lock()
queue_is_full = threading.Event()


def write():
    with log_lock:  # @writer_holds
        q.put("first")
        queue_is_full.set()
        q.put("second")  # @writer_puts


def read():
    queue_is_full.wait()
    with log_lock:  # @reader_waits
        print("read", q.get())


writer = threading.Thread(target=write, name="writer")
reader = threading.Thread(target=read, name="reader")
writer.start()
reader.start()
writer.join()
reader.join()
