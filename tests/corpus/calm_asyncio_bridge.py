# shows: threads wait for futures of an event loop, the loop waits for threads
# verdict: ok
# plain: ok
# expect: loop answered 42, thread answered 43
import asyncio
import threading


async def answer():
    await asyncio.sleep(0.05)
    return 42


def ask(loop):
    return asyncio.run_coroutine_threadsafe(answer(), loop).result()


def slowly(n, released):
    released.wait()
    return n + 1


async def main():
    loop = asyncio.get_running_loop()
    released = threading.Event()
    loop.call_later(0.05, released.set)
    answers = await asyncio.gather(asyncio.to_thread(ask, loop), asyncio.to_thread(slowly, 42, released))
    print(f"loop answered {answers[0]}, thread answered {answers[1]}")


asyncio.run(main())
