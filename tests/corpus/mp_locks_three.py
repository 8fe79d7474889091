# shows: three processes hold one of three locks each and want the next one's
# verdict: deadlock
# plain: hang
# methods: fork spawn forkserver
# report: "one" "two" "three" @has @wants
# expect: ^main is done$
# exit: 0
import multiprocessing
import sys


def work(mine, next_one, all_hold):
    with mine:  # @has
        all_hold.wait()
        with next_one:  # @wants
            pass


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    locks = [multiprocessing.Lock() for _ in range(3)]
    all_hold = multiprocessing.Barrier(3)
    processes = [
        multiprocessing.Process(target=work, args=(locks[n], locks[(n + 1) % 3], all_hold), name=name)
        for n, name in enumerate(("one", "two", "three"))
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print("main is done")
