"""What pools are given to do: functions of every origin, much data, many tasks, inputs without an end."""

from __future__ import annotations

import pytest
from tests.faults.pools import ALL, check, every, forked, spawned

# ---- functions of every origin


@spawned
def test_lambdas_closures_and_what_is_made_later(pool: str) -> None:
    check(
        """
def adder(more):
    def add(n): return n + more
    return add

class Local:
    def __init__(self, by): self.by = by
    def times(self, n): return n * self.by
    def __call__(self, n): return n + self.by

def main():
    class Hidden:
        def __init__(self, n): self.n = n
    with make(2) as pool:
        usable(pool)
        assert got(send(pool, lambda n: n + 1, 1)) == 2
        assert each(pool, lambda n: n * 3, range(4)) == [0, 3, 6, 9]
        assert got(send(pool, adder(5), 1)) == 6
        assert got(send(pool, Local(3).times, 4)) == 12 and got(send(pool, Local(3), 4)) == 7
        assert got(send(pool, lambda n: adder(n)(1), 5)) == 6
        assert got(send(pool, Hidden, 8)).n == 8
        assert got(send(pool, lambda box: box.n, Hidden(8))) == 8
        recursive = lambda n: 1 if n < 2 else n * recursive(n - 1)
        assert got(send(pool, recursive, 5)) == 120
        usable(pool)
""",
        pool,
    )


@pytest.mark.parametrize("pool", ALL)
@pytest.mark.parametrize("how", ["file", "-c", "stdin"])
def test_a_function_of_the_main_program(how: str, pool: str) -> None:
    check(
        f"""
PROGRAM = '''
def double(n): return 2 * n
class Point:
    def __init__(self, x): self.x = x
def move(point): return Point(point.x + 1)

if __name__ == "__main__":
    with make(2) as pool:
        usable(pool)
        print(each(pool, double, range(5)), got(send(pool, move, Point(4))).x)
'''
def main():
    program = Program(PROGRAM, how="{how}")
    assert program.ended() == 0, program.err
    assert program.out == "[0, 2, 4, 6, 8] 5\\n" and not program.err, (program.out, program.err)
""",
        pool,
    )


# ---- much


@every
@pytest.mark.parametrize("what", ["bytes", "array"])
def test_two_hundred_megabytes_back(what: str, pool: str) -> None:
    if what == "array":
        pytest.importorskip("numpy")
    check(
        f"""
SIZE = 200_000_000
if "{what}" == "array" and __name__ == "__main__": import numpy  # its threads are not the pool's

def give(n):
    if "{what}" == "bytes": return b"x" * SIZE
    import numpy
    return numpy.full(SIZE // 8, 1.5)

def main():
    with make(2) as pool:
        usable(pool)
        found = []
        others = [send(pool, square, n) for n in range(20)]
        grown = peak(lambda: found.append(got(send(pool, give, 1))))
        thing = found.pop()
        if "{what}" == "bytes": assert len(thing) == SIZE and thing.count(b"x") == SIZE
        else: assert thing.shape == (SIZE // 8,) and (thing == 1.5).all()
        del thing
        assert [got(one) for one in others] == squares(20)
        assert grown <= 1.2 * SIZE, f"{{grown / SIZE:.2f}} times the data"
        usable(pool)
""",
        pool,
    )


@pytest.mark.parametrize("pool", ["Pool-fork", "Pool-spawn", "Executor-fork"])
def test_a_hundred_thousand_tiny_tasks(pool: str) -> None:
    check(
        """
def main():
    with make(2) as pool:
        handles = [send(pool, square, n) for n in range(100_000)]
        assert sum(got(one, 30) for one in handles) == sum(n * n for n in range(100_000))
        usable(pool)
""",
        pool,
        deadline=45,
    )


@every
def test_an_endless_generator(pool: str) -> None:
    check(
        """
def main():
    pulled = [0]
    def endless():
        while pulled[0] < 50_000:  # as good as endless: nobody may come so far
            pulled[0] += 1
            yield pulled[0] - 1
    with make(2) as pool:
        results = lazily(pool, square, endless())
        assert [next(results) for _ in range(20)] == squares(20)
        assert settled(lambda: pulled[0]) < 5_000, pulled
        usable(pool)
        assert next(results) == 400
        assert settled(lambda: pulled[0]) < 5_000, pulled
""",
        pool,
    )


@forked
def test_a_slow_consumer(pool: str) -> None:
    check(
        """
def give(n): mark("d", n); return bytes(100_000)

def main():
    with make(2) as pool:
        usable(pool)
        pulled = [0]
        def items():
            for n in range(3_000): pulled[0] += 1; yield n
        results = []
        def begin():
            results.append(lazily(pool, give, items()))
            assert len(next(results[0])) == 100_000
            settled(lambda: pulled[0] + count("d"))
        # 300 MB of results, if nobody held them back.
        grown = peak(begin)
        assert grown < 100_000_000, grown
        usable(pool)
        assert sum(len(one) for one in results[0]) == 2_999 * 100_000
""",
        pool,
        deadline=30,
    )


@pytest.mark.parametrize("pool", ["Pool-fork", "Pool-spawn"])
def test_an_endless_generator_into_imap_unordered(pool: str) -> None:
    check(
        """
def main():
    pulled = [0]
    def endless():
        while pulled[0] < 50_000:
            pulled[0] += 1
            yield pulled[0] - 1
    with make(2) as pool:
        results = pool.imap_unordered(square, endless(), 5)
        assert all(next(results) ** 0.5 % 1 == 0 for _ in range(20))
        assert settled(lambda: pulled[0]) < 5_000, pulled
        usable(pool)
""",
        pool,
    )


@every
def test_an_input_that_raises(pool: str) -> None:
    check(
        """
def broken():
    for n in range(20): yield n
    raise LookupError("the input ended badly")

def main():
    with make(2) as pool:
        with fails(LookupError, "the input ended badly"): each(pool, square, broken())
        found = []
        with fails(LookupError, "the input ended badly"):
            for one in lazily(pool, square, broken()): found.append(one)
        assert found == squares(len(found)), found
        usable(pool)
""",
        pool,
    )


@every
def test_the_same_numbers_for_any_number_of_workers(pool: str) -> None:
    check(
        """
try:  # its threads belong to this process, not to the pool; a fresh worker loads it with its first task
    if __name__ == "__main__": import numpy
except ImportError: pass

def draw(n): return random.random()
def draw_array(n):
    import numpy
    return numpy.random.random()

def drawn(workers, seed, chunk, task):
    with make(workers) as pool: return each(pool.options(seed=seed), task, range(12), chunk)

def main():
    tasks = [draw]
    try: import numpy; tasks.append(draw_array)
    except ImportError: pass
    for task in tasks:
        one = drawn(1, 7, 1, task)
        assert len(set(one)) == 12 and one == drawn(2, 7, 1, task) == drawn(2, 7, 5, task)
        assert set(one).isdisjoint(drawn(2, 8, None, task))
""",
        pool,
    )
