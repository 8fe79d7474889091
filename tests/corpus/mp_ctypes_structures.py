# shows: Value, Array and their raw forms with ctypes types and Structures, changed by a child
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^n=49 x=1.5 s=b'HELLO WORLD' points=\[\(1.5, -6.0\), \(5.0, 2.0\)\] raw=\[0, 1, 4, 9\]$
import sys
from ctypes import Structure, c_double
from multiprocessing import Process, set_start_method
from multiprocessing.sharedctypes import Array, RawArray, Value


class Point(Structure):
    _fields_ = [("x", c_double), ("y", c_double)]


def modify(n, x, s, points, raw):
    with n.get_lock():
        n.value **= 2
    x.value /= 2
    s.value = s.value.upper()
    with points.get_lock():
        for point in points:
            point.x += 1
            point.y *= 2
    for index in range(len(raw)):
        raw[index] **= 2


if __name__ == "__main__":
    set_start_method(sys.argv[1])
    n = Value("i", 7)
    x = Value(c_double, 3.0)
    s = Array("c", b"hello world")
    points = Array(Point, [(0.5, -3.0), (4.0, 1.0)])
    raw = RawArray("i", range(4))
    child = Process(target=modify, args=(n, x, s, points, raw))
    child.start()
    child.join()
    print(f"n={n.value} x={x.value} s={s.value} points={[(p.x, p.y) for p in points]} raw={raw[:]}")
