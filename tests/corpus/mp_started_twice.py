# shows: a process can be started once, joined only after that, and only by its parent
# verdict: ok
# plain: ok
# methods: fork
# expect: ^can only join a started process$
# expect: ^cannot start a process twice$
# expect: ^can only join a child process$
import multiprocessing
import sys


def complain(call):
    try:
        call()
    except AssertionError as error:
        print(error, flush=True)


def ask_brother(brother):
    complain(brother.join)


multiprocessing.set_start_method(sys.argv[1])
one = multiprocessing.Process(target=str)
complain(one.join)
one.start()
complain(one.start)
two = multiprocessing.Process(target=ask_brother, args=(one,))
two.start()
one.join()
two.join()
