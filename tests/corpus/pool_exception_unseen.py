# shows: a task fails, nobody asks for its result, and the sum is short without a word
# verdict: wrong-answer
# plain: wrong-answer
# expect: WRONG: sum 40 instead of 60
from concurrent.futures import ThreadPoolExecutor

sums = []


def add(text):
    sums.append(int(text))


with ThreadPoolExecutor(max_workers=1) as pool:
    for text in ("10", "2O", "30"):  # a letter O
        pool.submit(add, text)
print("fine" if sum(sums) == 60 else f"WRONG: sum {sum(sums)} instead of 60")
