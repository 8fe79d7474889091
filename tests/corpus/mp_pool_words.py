# shows: words counted in parts of a text and added up, the parts in no order
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^the: 2000, quick: 2000, fox: 1000$
# expect: ^9000 words$
import multiprocessing
import sys
from collections import Counter

LINE = "the quick brown fox and the quick lazy dog"


def count(lines):
    return Counter(word for line in lines for word in line.split())


def parts(lines, size):
    for begin in range(0, len(lines), size):
        yield lines[begin : begin + size]


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    text = [LINE] * 1000
    words = Counter()
    with multiprocessing.Pool(2) as pool:
        for counted in pool.imap_unordered(count, parts(text, 37)):
            words += counted
    print(", ".join(f"{word}: {words[word]}" for word in ("the", "quick", "fox")))
    print(f"{words.total()} words")
