# shows: a lock round the writing keeps the lines of four processes whole
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^40 lines, all whole$
import multiprocessing
import os
import sys
import tempfile


def say(lock, path, name):
    out = os.open(path, os.O_WRONLY | os.O_APPEND)
    for _ in range(10):
        with lock:
            for letter in f"hello from {name}\n":
                os.write(out, letter.encode())
    os.close(out)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.Lock()
    with tempfile.NamedTemporaryFile("r") as file:
        processes = [multiprocessing.Process(target=say, args=(lock, file.name, n)) for n in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        lines = file.readlines()
    whole = sorted(lines) == [f"hello from {n}\n" for n in range(4) for _ in range(10)]
    print(f"{len(lines)} lines,", "all whole" if whole else "WRONG")
