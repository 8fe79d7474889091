# shows: pools that nobody shuts down, with idle workers, when the program ends
# verdict: ok
# plain: ok
# expect: \[1, 2, 3\] 6
# exit: 0
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(3)
other = ThreadPoolExecutor(2)
print(list(pool.map(abs, (-1, -2, -3))), other.submit(sum, (1, 2, 3)).result())
