"""Objects to the bytes of a channel's record and back: every class at its edges."""

from __future__ import annotations

import array
import copyreg
import enum
import functools
import io
import math
import pickle
import sys
import threading
from multiprocessing import connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import pytest

from phalanx import _core
from phalanx.multiprocessing import _pickle

encode = _core._codec_encode
decode = _core._codec_decode
roundtrip = _core._codec_roundtrip
as_bytes = _core._codec_as_bytes
encode_message = _core._codec_encode_message

INLINE = 8192
NONE, FALSE, TRUE, INT, FLOAT, STR, BYTES, TUPLE, BYTEARRAY, PICKLED, PICKLED_BUFFERS, MESSAGE = range(1, 13)


class Number(int):
    pass


class Text(str):
    __slots__ = ()


class Octets(bytes):
    pass


class Octetarray(bytearray):
    pass


class Real(float):
    pass


class Row(tuple[Any, ...]):
    __slots__ = ()


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 1


class Thing:
    """Something with a reference to it, equal to its like."""

    def __init__(self, value: object = None) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


def same(a: object, b: object) -> bool:
    """Equal, of one class, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return same(list(a.items()), list(b.items()))
    return a == b


def kind_of(thing: object) -> int:
    return encode(thing)[0]


# ---------------------------------------------------------------- kinds without a pickle

nested: tuple[Any, ...] = ()
for _ in range(4):
    nested = (nested,)
deepest: tuple[Any, ...] = nested
deeper: tuple[Any, ...] = (deepest,)

FAST = [
    (None, NONE),
    (False, FALSE),
    (True, TRUE),
    *((number, INT) for number in (0, 1, -1, -5, -6, 256, 257, 2**30 - 1, 2**30, -(2**30), 2**60, 2**63 - 1, -(2**63))),
    *((number, FLOAT) for number in (0.0, 1.5, -1e308, 5e-324, math.inf, -math.inf)),
    *((text, STR) for text in ("", "a", "\0", "abc", "é", "ÿ", "Ā", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff")),
    *((text, STR) for text in ("😀", "\U0010ffff", "a€😀é\0" * 20, "x" * INLINE, "x" * (INLINE + 1), "é" * 5000)),
    *((text, STR) for text in ("é" * 2048, "é" * 2049, "€" * 2731, "😀" * 2048, "😀" * 2049, "x" * 3_000_000)),
    *((octets, BYTES) for octets in (b"", b"\0", b"abc", bytes(INLINE), bytes(INLINE + 1), b"x" * 3_000_000)),
    *((bytearray(octets), BYTEARRAY) for octets in (b"", b"abc", bytes(INLINE), bytes(INLINE + 1), b"x" * 3_000_000)),
    ((), TUPLE),
    ((1,), TUPLE),
    ((None, True, False, 1, -1.5, "a", "é", b"b", (), (1, ("x",))), TUPLE),
    (tuple(range(255)), TUPLE),
    (("x" * 8000, b"y" * 100), TUPLE),
    (deepest, TUPLE),
]

PICKLES = [
    2**63,
    -(2**63) - 1,
    10**1000,
    Number(5),
    Colour.RED,
    Real(1.5),
    Text("abc"),
    Octets(b"abc"),
    Octetarray(b"abc"),
    "\ud800",
    "a\udfffb",
    "\udcff" * 9000,
    Row((1, 2)),
    Point(1, 2),
    (1, 2**63),
    (1, Number(5)),
    (1, bytearray(b"mutable")),
    (1, [2]),
    (1, "\ud800"),
    tuple(range(256)),
    tuple(range(5000)),
    ("x" * 9000,),
    (b"x" * 9000, "é" * 4000),
    deeper,
    [],
    [1, [2, [3, {"four": (5,)}]]],
    {},
    {"a": 1, 2: None, None: b"x" * 10},
    {1, 2},
    frozenset({1}),
    1j,
    range(5),
    Thing([Thing(1), "x" * 100_000]),
    list(range(100_000)),
    ["x" * 100_000, b"y" * 100_000, bytearray(b"z" * 100_000)],
    {"large": (b"y" * 5_000_000,), "text": "é" * 100_000},
    Octets(b"x" * 100_000),
    Ellipsis,
    int,
    math.sqrt,
]


@pytest.mark.parametrize(("value", "kind"), FAST, ids=range(len(FAST)))
def test_what_has_a_kind_of_its_own(value: object, kind: int) -> None:
    found, record = encode(value)
    assert found == kind
    assert same(decode(found, record), value)
    assert same(roundtrip(value), value)
    assert same(pickle.loads(as_bytes(found, record)), value)


@pytest.mark.parametrize("value", PICKLES, ids=range(len(PICKLES)))
def test_what_is_pickled(value: object) -> None:
    kind, record = encode(value)
    assert kind == PICKLED
    assert same(decode(kind, record), value)
    assert same(pickle.loads(record), value)
    assert as_bytes(kind, record) == record
    assert type(record) is (bytes if len(record) <= INLINE else bytearray)


def test_not_a_number() -> None:
    assert math.isnan(roundtrip(math.nan))
    assert math.copysign(1, roundtrip(-0.0)) == -1


@pytest.mark.parametrize("length", range(8180, 8200))
def test_where_small_ends(length: int) -> None:
    for value in ("x" * length, b"x" * length, bytearray(length), ("x" * length,), ["x" * length]):
        record = encode(value)[1]
        assert isinstance(record, bytes) == (len(record) <= INLINE)
        assert same(decode(encode(value)[0], record), value)


def test_every_character() -> None:
    for start in range(0, 0x110000, 1000):
        text = "".join(chr(code) for code in range(start, min(start + 1000, 0x110000)) if not 0xD800 <= code < 0xE000)
        assert roundtrip((text,)) == (text,)
        assert roundtrip(text) == text
        if text:
            assert encode(text)[1] == text.encode()


def test_constants_are_the_same_objects() -> None:
    for value in (None, True, False, (), "", chr(97), chr(233), b"", 5):
        assert roundtrip(value) is value


def test_one_object_twice_is_one_object_where_it_may_change() -> None:
    part: list[int] = [1]
    for value in ((part, part), [part, part], {1: part, 2: part}):
        copy = list(roundtrip(value).values() if isinstance(value, dict) else roundtrip(value))
        assert copy[0] is copy[1]
    loop: list[Any] = []
    loop.append(loop)
    copy = roundtrip(loop)
    assert copy[0] is copy


def test_a_mutable_thing_is_a_copy() -> None:
    source = bytearray(b"abc")
    copy = roundtrip(source)
    source += b"d"
    copy += b"e"
    assert (source, copy) == (b"abcd", b"abce")


# ---------------------------------------------------------------- pickling as multiprocessing does


def test_reducers_of_multiprocessing_count() -> None:
    def reduce(thing: Thing) -> tuple[Any, ...]:
        return Thing, ("reduced",)

    assert roundtrip(Thing(1)) == Thing(1)
    ForkingPickler.register(Thing, reduce)
    try:
        assert roundtrip(Thing(1)) == Thing("reduced")
        assert roundtrip([Thing(1)]) == [Thing("reduced")]
        assert pickle.loads(_pickle.dump_in_band(Thing(1))) == Thing("reduced")
        ForkingPickler.register(Thing, lambda thing: (Thing, ("again",)))
        assert roundtrip(Thing(1)) == Thing("again")
    finally:
        del ForkingPickler._extra_reducers[Thing]
    copyreg.pickle(Thing, reduce)
    try:
        assert roundtrip(Thing(1)) == Thing("reduced")
    finally:
        del copyreg.dispatch_table[Thing]
    assert roundtrip(Thing(1)) == Thing(1)


def test_reducers_of_a_program_come_before_ours() -> None:
    ForkingPickler.register(array.array, lambda values: (list, (values.tolist(),)))
    try:
        assert roundtrip(array.array("i", [1])) == [1]
    finally:
        del ForkingPickler._extra_reducers[array.array]


def test_what_only_multiprocessing_can_pickle() -> None:
    thing = Thing(5)
    assert roundtrip(functools.partial(int, "11", base=2))() == 3
    assert roundtrip(thing.__eq__)(Thing(5))
    ours, theirs = connection.Pipe()
    with ours, theirs, roundtrip(ours) as copy:
        copy.send(1)
        assert theirs.recv() == 1


class Refuses:
    def __reduce__(self) -> Any:
        raise LookupError("not me")


class Ends:
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


class Breaks:
    def __init__(self, needed: int) -> None:
        pass

    def __reduce__(self) -> Any:
        return Breaks, ()


def test_errors_of_pickling_come_unchanged() -> None:
    for refused, error in (
        (lambda: None, (AttributeError, pickle.PicklingError)),
        (threading.Lock(), TypeError),
        (io.StringIO, None),
        (Refuses(), LookupError),
        (Ends(), KeyboardInterrupt),
        (sys, TypeError),
    ):
        for value in (refused, (1, refused), [refused], {"a": [refused]}):
            if error is None:
                assert roundtrip(value) == value
                continue
            with pytest.raises(error):
                encode(value)
    assert roundtrip(Thing(1)) == Thing(1)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        encode(deep)
    while deep:
        deep = deep.pop()


def test_errors_of_unpickling_come_unchanged() -> None:
    kind, record = encode(Breaks(1))
    with pytest.raises(TypeError, match="needed"):
        decode(kind, record)
    with pytest.raises(ModuleNotFoundError):
        decode(PICKLED, b"cnot.there\nx\n.")


class Inner:
    """Pickles something of its own while it is pickled."""

    def __reduce__(self) -> Any:
        return decode, encode(Thing(bytes(100_000)))


def test_pickling_inside_pickling_and_in_threads() -> None:
    assert roundtrip([Inner(), Thing(2)]) == [Thing(bytes(100_000)), Thing(2)]
    failures: list[object] = []

    def work(number: int) -> None:
        for step in range(200):
            value = [Thing((number, step)), bytearray(step * 300), {"a": number}]
            if roundtrip(value) != value:
                failures.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ---------------------------------------------------------------- messages of send_bytes


@pytest.mark.parametrize("length", [0, 1, 100, INLINE, INLINE + 1, 3_000_000])
def test_messages(length: int) -> None:
    message = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    for source in (message, bytearray(message), memoryview(message), Octets(message)):
        kind, record = encode_message(source)
        assert (kind, len(record)) == (MESSAGE, length)
        assert type(record) is (bytes if length <= INLINE else bytearray)
        assert as_bytes(kind, record) == message
        assert type(as_bytes(kind, record)) is bytes


def test_messages_that_are_not() -> None:
    assert as_bytes(*encode_message(array.array("i", [1, 2]))) == array.array("i", [1, 2]).tobytes()
    with pytest.raises(TypeError):
        encode_message("text")
    with pytest.raises(BufferError):
        encode_message(memoryview(b"abcd")[::2])


def test_recv_of_a_message_unpickles_it() -> None:
    for value in (1, [Thing(2)], b"x" * 100_000):
        assert decode(*encode_message(pickle.dumps(value))) == value
        assert decode(*encode_message(ForkingPickler.dumps(value))) == value
    with pytest.raises(EOFError):
        decode(*encode_message(b""))
    with pytest.raises(pickle.UnpicklingError):
        decode(*encode_message(b"not a pickle"))


def test_recv_bytes_of_an_object_gives_its_pickle() -> None:
    for value in (5, "x", (1, "é"), [Thing(1)], memoryview(bytearray(100_000)), {"a": array.array("d", [1.0]) * 9000}):
        kind, record = encode(value)
        for wrap in (bytes, bytearray):
            assert pickle.loads(as_bytes(kind, wrap(record))) == value
