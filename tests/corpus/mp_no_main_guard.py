# shows: a program without `if __name__ == "__main__"` starts a process; the parent has to learn that the child failed
# verdict: error
# plain: wrong-answer
# methods: spawn forkserver
# expect: __main__
# exit: 1
import multiprocessing
import sys

context = multiprocessing.get_context(sys.argv[1])
worker = context.Process(target=print, args=("hello",))
worker.start()
worker.join()
print("WRONG: no hello, and the parent ends as if nothing had happened")
