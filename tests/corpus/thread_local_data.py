# shows: each thread has its own value in threading.local
# verdict: ok
# plain: ok
# expect: \[10, 20, 30\] main still 0
import threading

mine = threading.local()
mine.value = 0
all_set = threading.Barrier(3)
seen = []


def keep(value):
    mine.value = value
    all_set.wait()
    seen.append(mine.value)


threads = [threading.Thread(target=keep, args=(value,)) for value in (10, 20, 30)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(sorted(seen), "main still", mine.value)
