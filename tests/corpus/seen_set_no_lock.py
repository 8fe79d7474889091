# shows: check and add without a lock; two threads both find the page new
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: index.html visited 2 times
import threading

seen = set()
visits = []
both_checked = threading.Barrier(2)


def visit(page):
    if page not in seen:
        both_checked.wait()
        seen.add(page)
        visits.append(page)


threads = [threading.Thread(target=visit, args=("index.html",)) for _ in range(2)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("fine" if len(visits) == 1 else f"WRONG: index.html visited {len(visits)} times")
