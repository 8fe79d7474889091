"""Transfers between accounts, each with its own lock.

    phalanx run examples/bank/bank.py              locks in the order of the account numbers: always works
    phalanx run examples/bank/bank.py --naive      locks the payer first: two transfers wait for each other

`--naive` hangs for ever under plain python (stop it with Ctrl-C). Under phalanx one of the two transfers gets a
DeadlockError that says who waits for whom and where; it lets its lock go, and the other transfer goes through.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time


class Account:
    """A number, an owner, and a balance under a lock."""

    def __init__(self, number: int, owner: str, balance: int) -> None:
        self.number = number
        self.owner = owner
        self.balance = balance
        self.lock = threading.Lock()

    def book(self, amount: int) -> None:
        self.balance += amount  # the caller holds the lock


def transfer_ordered(payer: Account, payee: Account, amount: int) -> None:
    """Takes both locks in the same order in every thread, so no ring can close."""
    first, second = sorted((payer, payee), key=lambda account: account.number)
    with first.lock, second.lock:
        payer.book(-amount)
        payee.book(amount)


def transfer_naive(payer: Account, payee: Account, amount: int, meet: threading.Barrier) -> None:
    """Takes the payer's lock first. The barrier makes sure that both transfers have got that far."""
    with payer.lock:
        meet.wait()
        with payee.lock:
            payer.book(-amount)
            payee.book(amount)


def show(accounts: list[Account]) -> None:
    for account in accounts:
        print(f"  {account.owner:<6} {account.balance:6}  {'#' * max(0, account.balance // 50)}")
    print(f"  {'sum':<6} {sum(account.balance for account in accounts):6}")


def run_ordered(tellers: int, transfers: int) -> int:
    owners = ("Ada", "Bela", "Chen", "Dora", "Emil")
    accounts = [Account(number, owner, 1000) for number, owner in enumerate(owners)]

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(transfers):
            payer, payee = rng.sample(accounts, 2)
            transfer_ordered(payer, payee, rng.randrange(1, 20))

    print(f"{tellers} tellers, {transfers} transfers each, locks in the order of the account numbers")
    threads = [threading.Thread(target=work, args=(n,), name=f"teller-{n + 1}") for n in range(tellers)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    show(accounts)
    kept = sum(account.balance for account in accounts) == 1000 * len(accounts)
    print(f"{tellers * transfers} transfers in {seconds:.2f} s, the sum is {'still the same' if kept else 'WRONG'}")
    return 0 if kept else 1


def run_naive() -> int:
    ada, bela = Account(0, "Ada", 1000), Account(1, "Bela", 1000)
    meet = threading.Barrier(2)
    done: list[str] = []

    def work(payer: Account, payee: Account, amount: int) -> None:
        transfer_naive(payer, payee, amount, meet)
        done.append(f"{payer.owner} to {payee.owner}")

    print("Ada pays Bela while Bela pays Ada, each locks the payer first", flush=True)
    # Daemons, so that Ctrl-C can end the program where nobody finds the deadlock.
    threads = [
        threading.Thread(target=work, args=(ada, bela, 100), name="Ada to Bela", daemon=True),
        threading.Thread(target=work, args=(bela, ada, 200), name="Bela to Ada", daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stderr.flush()
    show([ada, bela])
    print(f"{len(done)} of 2 transfers done: {', '.join(done) or 'none'}")
    return 0 if len(done) == len(threads) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Transfers between accounts, each with its own lock.")
    parser.add_argument("--naive", action="store_true", help="lock the payer first, and get stuck")
    parser.add_argument("--tellers", type=int, default=4, help="number of threads (default: %(default)s)")
    parser.add_argument("--transfers", type=int, default=5000, help="per teller (default: %(default)s)")
    options = parser.parse_args()
    if options.tellers < 1 or options.transfers < 0:
        parser.error("at least one teller, please")
    return run_naive() if options.naive else run_ordered(options.tellers, options.transfers)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped by hand; `phalanx run` would have said who waits for whom")
