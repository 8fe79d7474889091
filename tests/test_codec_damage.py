"""Damaged records: an exception, never worse."""

from __future__ import annotations

import array
import collections
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.programs import run
from tests.test_codec import FLOAT, INT, NONE, PICKLED_BUFFERS, STR, TRUE, TUPLE, as_bytes, decode

from phalanx.multiprocessing import _pickle


def word(number: int) -> bytes:
    return number.to_bytes(8, sys.byteorder)


DAMAGED = [
    (0, b""),
    (13, b""),
    (255, b"abc"),
    (NONE, b"\0"),
    (TRUE, b"\0"),
    (INT, b""),
    (INT, bytes(7)),
    (INT, bytes(9)),
    (FLOAT, bytes(4)),
    (STR, b"\xff"),
    (STR, b"abc\xc3"),
    (STR, b"\xed\xa0\x80"),
    (TUPLE, b""),
    (TUPLE, b"\1"),
    (TUPLE, b"\xff"),
    (TUPLE, b"\0\0"),
    (TUPLE, b"\1\0"),
    (TUPLE, b"\1\4" + bytes(7)),
    (TUPLE, b"\1\6\5\0abc"),
    (TUPLE, b"\1\6\1"),
    (TUPLE, b"\1\7\xff\xff"),
    (TUPLE, b"\1\6\1\0\xff"),
    (TUPLE, b"\1\x09\1\0a"),
    (TUPLE, b"\1\x0a."),
    (TUPLE, b"\1\x08" * 1000),
    (TUPLE, b"\1\x08" * 5 + b"\0"),
    (PICKLED_BUFFERS, b""),
    (PICKLED_BUFFERS, bytes(8)),
    (PICKLED_BUFFERS, word(0) + word(1)),
    (PICKLED_BUFFERS, word(1) + word(0)),
    (PICKLED_BUFFERS, word(1) + word(0) + word(0)),
    (PICKLED_BUFFERS, word(1) + word(0) + word(2**64 - 1) + bytes(200)),
    (PICKLED_BUFFERS, word(1) + word(0) + word(2**64 - 64) + bytes(200)),
    (PICKLED_BUFFERS, word(2**61) + word(0) + bytes(200)),
    (PICKLED_BUFFERS, word(2**61 - 2) + word(0) + bytes(200)),
    (PICKLED_BUFFERS, word(2**64 - 1) + word(2**64 - 1) + bytes(200)),
    (PICKLED_BUFFERS, word(0) + word(2**64 - 16) + bytes(200)),
    (PICKLED_BUFFERS, word(0) + word(2) + b"N." + b"x"),
]


@pytest.mark.parametrize(("kind", "record"), DAMAGED, ids=range(len(DAMAGED)))
@pytest.mark.parametrize("wrap", [bytes, bytearray])
def test_damaged_records(kind: int, record: bytes, wrap: Any) -> None:
    for call in (decode, as_bytes):
        with pytest.raises(pickle.UnpicklingError, match="phalanx: a record of a channel is damaged"):
            call(kind, wrap(record))


def test_buffers_that_are_missing_or_too_many() -> None:
    stream = b"".join(_pickle.dump(memoryview(bytes(5000)))[0])
    head = word(0) + word(len(stream)) + stream
    with pytest.raises(pickle.UnpicklingError):
        decode(PICKLED_BUFFERS, head)
    head = word(1) + word(2) + word(3) + b"N."
    record = head + bytes(64 - len(head)) + b"abc"
    assert decode(PICKLED_BUFFERS, record) is None


RANDOM = """
import random, resource, sys, warnings
from tests.test_codec import as_bytes, decode, encode
from tests.test_codec_damage import samples, word

warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
draw = random.Random(int(sys.argv[1]))
records = [encode(value) for value in samples()]
counts = [0, 0]
for _ in range(int(sys.argv[2])):
    kind, record = draw.choice(records)
    bad = bytearray(record)
    for _ in range(draw.randint(1, 4)):
        place = min(int(draw.expovariate(1 / 40)), max(len(bad) - 1, 0))
        what = draw.randint(0, 4)
        if what == 0 and bad:
            bad[place] ^= 1 << draw.randint(0, 7)
        elif what == 1 and bad:
            bad[place] = draw.choice([0, 1, 2, 127, 128, 255, draw.randint(0, 255)])
        elif what == 2:
            del bad[place : place + draw.choice([1, 8, len(bad)])]
        elif what == 3:
            bad[place:place] = draw.randbytes(draw.choice([1, 8]))
        else:
            bad[place : place + 8] = word(draw.choice([2**63, 2**64 - 1, 2**31, draw.randint(0, len(bad) + 70)]))
    if draw.randint(0, 9) == 0:
        kind = draw.randint(0, 14)
    for data in (bytes(bad), bad):
        for call in (decode, as_bytes):
            try:
                call(kind, data)
                counts[0] += 1
            except Exception:
                counts[1] += 1
    bad.append(0)  # nothing has kept a view
print("survived", counts[0] > 100, counts[1] > 100)
"""


def samples() -> Iterator[object]:
    """Things whose records are small but have every part."""
    yield from (None, True, 5, 1.5, "text é", b"bytes", bytearray(b"array"))
    yield from ((1, "two", b"three", (4.0, None, ("é",))), tuple(range(20)), ((((),),),), ("x" * 300, b"y" * 300))
    yield from ([1, "two"], {"a": (1, 2)}, 10**30, collections.OrderedDict(a=1))
    yield memoryview(bytearray(4096))
    yield [memoryview(bytes(4096)), array.array("d", [1.0]) * 600, "end"]


@pytest.mark.parametrize("seed", range(4))
def test_random_damage(seed: int) -> None:
    outcome = run(RANDOM, str(seed), "5000", deadline=50)
    assert (outcome.code, outcome.out) == (0, "survived True True\n"), outcome.err
