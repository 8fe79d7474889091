# shows: a block of shared memory and a ShareableList, changed by a child
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^b'HELLO' \['a', 4, 2.5, None\]$
import multiprocessing
import sys
from multiprocessing import shared_memory


def change(name, items):
    block = shared_memory.SharedMemory(name=name)
    block.buf[:5] = bytes(block.buf[:5]).upper()
    block.close()
    items[1] *= 2
    items.shm.close()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    block = shared_memory.SharedMemory(create=True, size=64)
    items = shared_memory.ShareableList(["a", 2, 2.5, None])
    try:
        block.buf[:5] = b"hello"
        child = multiprocessing.Process(target=change, args=(block.name, items))
        child.start()
        child.join()
        print(bytes(block.buf[:5]), list(items))
    finally:
        block.close()
        block.unlink()
        items.shm.close()
        items.shm.unlink()
