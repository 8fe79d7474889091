# shows: what a connection can do: poll, bytes, recv_bytes_into, closed ends, a connection sent through a connection
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^all as expected$
import multiprocessing
import sys


def answer(pipe):
    letter_box = pipe.recv()  # a connection, sent through another one
    letter_box.send("a letter")
    letter_box.close()
    pipe.send_bytes(pipe.recv_bytes()[::-1])


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.Process(target=answer, args=(theirs,))
    child.start()
    theirs.close()
    assert ours.readable and ours.writable and not ours.closed and theirs.closed
    assert not ours.poll() and not ours.poll(0.01)

    letters_in, letters_out = multiprocessing.Pipe(duplex=False)
    assert not letters_out.readable and not letters_in.writable
    ours.send(letters_out)
    assert letters_in.recv() == "a letter"
    letters_out.close()
    try:
        letters_in.recv()
        raise AssertionError("there is an end")
    except EOFError:
        pass
    try:
        letters_out.send(1)
        raise AssertionError("it is closed")
    except OSError:
        pass

    ours.send_bytes(b"abcdef", 1, 4)
    assert ours.poll(None)
    buffer = bytearray(6)
    assert ours.recv_bytes_into(buffer, 1) == 4 and buffer == b"\0edcb\0"
    child.join()
    assert ours.poll(0), "the end can be read"
    print("all as expected")
