# shows: two processes that talk through a Listener and a Client with a key
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^server got \['a', 1\], client got 'thanks'$
import multiprocessing
import sys
from multiprocessing.connection import Client, Listener


def serve(address_out):
    with Listener(("127.0.0.1", 0), authkey=b"key") as listener:
        address_out.send(listener.address)
        with listener.accept() as connection:
            got = connection.recv()
            connection.send("thanks")
    address_out.send(got)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    address_in, address_out = multiprocessing.Pipe(False)
    server = multiprocessing.Process(target=serve, args=(address_out,))
    server.start()
    with Client(address_in.recv(), authkey=b"key") as connection:
        connection.send(["a", 1])
        answer = connection.recv()
    print(f"server got {address_in.recv()}, client got {answer!r}")
    server.join()
