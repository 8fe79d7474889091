# shows: two threads of a child take two locks in opposite order, while the parent waits for the child
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "ledger" "auditor" @first @second
# expect: ^child ended with 0$
# exit: 0
import multiprocessing
import sys
import threading


def take_both(first, second, both_hold):
    with first:  # @first
        both_hold.wait()
        with second:  # @second
            pass


def work():
    accounts, audit, both_hold = threading.Lock(), threading.Lock(), threading.Barrier(2)
    threads = [
        threading.Thread(target=take_both, args=(accounts, audit, both_hold), name="ledger"),
        threading.Thread(target=take_both, args=(audit, accounts, both_hold), name="auditor"),
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    child = multiprocessing.Process(target=work)
    child.start()
    child.join()
    print("child ended with", child.exitcode)
