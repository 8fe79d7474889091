# shows: an event loop hands work to processes and goes on ticking meanwhile
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^\[10, 45, 190\]$
# expect: ^the loop went on$
import asyncio
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor


def add_up(upto):
    return sum(range(upto))


async def main():
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2) as executor:
        print(await asyncio.gather(*[loop.run_in_executor(executor, add_up, n) for n in (5, 10, 20)]))
    ticking.cancel()
    print("the loop went on" if ticks > 1 else "WRONG: the loop stood still")


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    asyncio.run(main())
