# shows: two processes take two locks in one order, many times
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^balances 100 100$
import multiprocessing
import sys


def transfer(accounts, locks, source, target, times):
    first, second = sorted((source, target))
    for _ in range(times):
        with locks[first], locks[second]:
            accounts[source] -= 1
            accounts[target] += 1


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    accounts = multiprocessing.Array("i", [100, 100], lock=False)
    locks = [multiprocessing.Lock(), multiprocessing.Lock()]
    there = multiprocessing.Process(target=transfer, args=(accounts, locks, 0, 1, 500))
    back = multiprocessing.Process(target=transfer, args=(accounts, locks, 1, 0, 500))
    there.start()
    back.start()
    there.join()
    back.join()
    print("balances", *accounts)
