# shows: two processes take two locks in opposite order
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "ledger" "auditor" @accounts_first @then_audit @audit_first @then_accounts
# expect: ^main is done$
# exit: 0
import multiprocessing
import sys


def book(accounts, audit, both_hold):
    with accounts:  # @accounts_first
        both_hold.wait()
        with audit:  # @then_audit
            print("booked")


def check(accounts, audit, both_hold):
    with audit:  # @audit_first
        both_hold.wait()
        with accounts:  # @then_accounts
            print("checked")


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    accounts, audit = multiprocessing.Lock(), multiprocessing.Lock()
    both_hold = multiprocessing.Barrier(2)
    arguments = (accounts, audit, both_hold)
    ledger = multiprocessing.Process(target=book, args=arguments, name="ledger")
    auditor = multiprocessing.Process(target=check, args=arguments, name="auditor")
    ledger.start()
    auditor.start()
    ledger.join()
    auditor.join()
    print("main is done")
