# shows: the same nested task in a pool of two, where one worker is left for it
# verdict: ok
# plain: ok
# expect: ^1024$
from concurrent.futures import ThreadPoolExecutor


def outer_task():
    return pool.submit(pow, 2, 10).result()


with ThreadPoolExecutor(max_workers=2) as pool:
    print(pool.submit(outer_task).result())
