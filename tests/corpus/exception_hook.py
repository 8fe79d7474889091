# shows: threading.excepthook gets the exception and the thread
# verdict: ok
# plain: ok
# expect: divider: ZeroDivisionError
import threading

threading.excepthook = lambda args: print(f"{args.thread.name}: {args.exc_type.__name__}")
divider = threading.Thread(target=lambda: 1 / 0, name="divider")
divider.start()
divider.join()
