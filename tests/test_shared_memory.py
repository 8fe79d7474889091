"""Named segments and the lists in them."""

from __future__ import annotations

import multiprocessing.shared_memory as standard_shared_memory
import os
import pickle
import random
import string
import struct
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.test_processes import METHODS, run, script

from phalanx.multiprocessing import shared_memory

__all__ = ["script"]


def exists(name: str) -> bool:
    return os.path.exists(f"/dev/shm/{name}")


@pytest.fixture
def name() -> Iterator[str]:
    name = "phx" + "".join(random.choices(string.ascii_lowercase, k=8))
    yield name
    if exists(name):
        os.unlink(f"/dev/shm/{name}")


def test_shared_memory(name: str) -> None:
    segment = shared_memory.SharedMemory(name, create=True, size=100)
    try:
        assert segment.name == name and segment.size == 100 and len(segment.buf) == 100
        assert repr(segment) == f"SharedMemory({name!r}, size=100)"
        assert isinstance(segment, standard_shared_memory.SharedMemory)
        again = shared_memory.SharedMemory(name, size=10_000)
        again.buf[5] = 5
        assert (segment.buf[5], again.size) == (5, 100)
        third = pickle.loads(pickle.dumps(segment))
        assert third.buf[5] == 5
        with pytest.raises(FileExistsError):
            shared_memory.SharedMemory(name, create=True, size=1)
        for it in (again, third):
            it.close()
        assert exists(name)
    finally:
        segment.close()
        segment.unlink()
    assert not exists(name)
    with pytest.raises(FileNotFoundError):
        segment.unlink()
    with pytest.raises(FileNotFoundError):
        shared_memory.SharedMemory(name)


def test_what_a_segment_cannot_be(name: str) -> None:
    for arguments in ({"create": True, "size": -2}, {"create": True}, {"name": None}, {"name": name, "size": -1}):
        with pytest.raises(ValueError, match=r"'size' must be|'name' can only"):
            shared_memory.SharedMemory(**arguments)
    with pytest.raises(ValueError, match="null"):
        shared_memory.SharedMemory(name + "\0a", create=True, size=1)
    assert not exists(name)
    segment = shared_memory.SharedMemory(name, create=True, size=1)
    segment._name += "\0a"
    with pytest.raises(ValueError, match="null"):
        segment.unlink()
    segment.close()
    segment._name = f"/{name}"
    segment.unlink()


def test_generated_names_go_on_after_a_collision(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    names = iter([f"/{name}", f"/{name}", f"/{name}2"])
    monkeypatch.setattr(standard_shared_memory, "_make_filename", lambda: next(names))
    segments = [shared_memory.SharedMemory(create=True, size=1) for _ in range(2)]
    for segment in segments:
        segment.close()
        segment.unlink()
    assert [segment.name for segment in segments] == [name, f"{name}2"]


def test_flags_of_a_subclass_are_honoured(name: str) -> None:
    class AttachOrMake(shared_memory.SharedMemory):
        _flags = os.O_CREAT | os.O_RDWR

    segment = shared_memory.SharedMemory(name, create=True, size=10)
    other = AttachOrMake(name)
    assert other.size == 10
    other.close()
    segment.close()
    segment.unlink()


def test_failing_to_attach_destroys_nothing(name: str) -> None:
    Path(f"/dev/shm/{name}").touch()
    with pytest.raises(ValueError, match="empty"):
        shared_memory.SharedMemory(name)
    assert exists(name)


def test_failing_to_make_leaves_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shared_memory, "_track", fail)
    with pytest.raises(KeyboardInterrupt):
        shared_memory.SharedMemory(name, create=True, size=10)
    assert not exists(name)


def test_a_view_in_use_when_the_segment_goes_is_no_error(name: str) -> None:
    segment = shared_memory.SharedMemory(name, create=True, size=10)
    view, descriptor = segment.buf[2:4], segment._fd
    segment.unlink()
    with pytest.raises(BufferError):
        segment.close()
    del segment  # an exception in __del__ would be an error here
    view[0] = 7
    assert view[0] == 7
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


MAKE = "from phalanx.multiprocessing.shared_memory import SharedMemory, ShareableList\n"
WATCH = """
ATTACH = "import sys; from phalanx.multiprocessing.shared_memory import ShareableList, SharedMemory; "
def alone(program, *arguments):
    # In a program of its own, with a tracker of its own.
    import subprocess
    return subprocess.run([sys.executable, "-c", program, *arguments], text=True, capture_output=True, timeout=30)
"""


def test_an_attacher_that_ends_destroys_nothing(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10)
    segment.buf[0] = 42
    attach = ATTACH + "a = SharedMemory(sys.argv[1]); print(a.buf[0])"
    listed = ShareableList([1, "two"])
    attach_list = ATTACH + "print(ShareableList(name=sys.argv[1])[1])"
    for done in (alone(attach, segment.name), alone(attach, segment.name), alone(attach_list, listed.shm.name)):
        print(done.stdout, done.stderr, end="")
    for it in (segment, listed.shm):
        it.close(); it.unlink()
    """
    assert run(script, MAKE + WATCH + textwrap.dedent(body), name) == (0, "42\n 42\n two\n ", "")
    assert not exists(name)


@pytest.mark.parametrize("method", METHODS)
def test_whoever_unlinks_the_tracker_has_nothing_to_say(script: Path, name: str, method: str) -> None:
    body = """
    def finish(segment):
        segment.buf[1] = 2
        segment.close()
        segment.unlink()
    if __name__ == "__main__":
        segment = SharedMemory(sys.argv[1], create=True, size=10)
        child = multiprocessing.get_context(sys.argv[2]).Process(target=finish, args=(segment,))
        child.start(); child.join()
        print(segment.buf[1]); segment.close()
    """
    assert run(script, MAKE + textwrap.dedent(body), name, method) == (0, "2\n", "")
    assert not exists(name)


def test_another_program_unlinks(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10, track=False)
    done = alone(ATTACH + "SharedMemory(sys.argv[1]).unlink()", segment.name)
    print(done.stdout, done.stderr)
    """
    assert run(script, MAKE + WATCH + textwrap.dedent(body), name) == (0, " \n", "")
    assert not exists(name)


def test_what_is_not_tracked_stays(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10, track=False)
    """
    assert run(script, MAKE + textwrap.dedent(body), name) == (0, "", "")
    assert exists(name)
    # And who asks for it does track what it attaches to.
    outcome = run(script, MAKE + "SharedMemory(sys.argv[1], track=True).close()", name)
    assert "There appear to be 1 leaked shared_memory objects" in outcome.err
    assert not exists(name)


def test_the_segment_of_a_killed_program_is_unlinked(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    outcome = run(script, MAKE + textwrap.dedent(body), name)
    assert outcome.code == -9
    assert "resource_tracker: There appear to be 1 leaked shared_memory objects to clean up at shutdown" in outcome.err
    assert not exists(name)


def test_the_segments_of_a_killed_group_are_unlinked(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10)
    os.killpg(0, signal.SIGKILL)
    """
    assert run(script, MAKE + textwrap.dedent(body), name).code == -9
    assert not exists(name)


def test_an_attacher_in_the_same_tree_leaves_the_tracking_alone(script: Path, name: str) -> None:
    """The tracker keeps a set: who attaches and then takes that back takes back the maker's entry."""
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10)
    SharedMemory(sys.argv[1]).close()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(script, MAKE + textwrap.dedent(body), name).code == -9
    assert not exists(name)


UNDO = """
from multiprocessing import resource_tracker
from phalanx.multiprocessing import resource_tracker as ours, shared_memory
resource_tracker.unregister = ours.unregister
"""


def test_programs_that_undo_the_tracking_of_an_attacher(script: Path, name: str) -> None:
    body = """
    segment = SharedMemory(sys.argv[1], create=True, size=10)
    attach = ATTACH + "a = SharedMemory(sys.argv[1]); "
    done = alone(UNDO + attach + "resource_tracker.unregister(a._name, 'shared_memory')", segment.name)
    print(done.stdout, done.stderr)
    exec(UNDO)
    segment.unlink()
    mine = SharedMemory(sys.argv[1], create=True, size=10)
    again = SharedMemory(sys.argv[1])
    resource_tracker.unregister(mine._name, "shared_memory")
    """
    assert run(script, f"UNDO = {UNDO!r}\n" + MAKE + WATCH + textwrap.dedent(body), name) == (0, " \n", "")
    assert exists(name)  # by its maker's own wish


# ---------------------------------------------------------------- lists in named segments


def test_shareable_list_has_the_standard_layout(name: str) -> None:
    items = ["howdy", b"HoWdY", -273.154, 100, None, True, 42, "", b"", "12345678", "1234567é"]
    ours = shared_memory.ShareableList(items)
    theirs = standard_shared_memory.ShareableList(items)
    try:
        size = min(ours.shm.size, theirs.shm.size)
        assert bytes(ours.shm.buf[:size]) == bytes(theirs.shm.buf[:size]) and ours.shm.size == theirs.shm.size
        assert list(ours) == items and len(ours) == 11
        assert ours.format == theirs.format == "8s8sdqxxxxxx?xxxxxxxx?q8s8s16s16s"
        attached = shared_memory.ShareableList(name=theirs.shm.name)
        assert list(attached) == items
        attached[3] = 101
        assert theirs[3] == 101
        attached.shm.close()
    finally:
        for it in (ours, theirs):
            it.shm.close()
            it.shm.unlink()


def test_shareable_list(name: str) -> None:
    listed = shared_memory.ShareableList(["abc", 1, None, 2.5], name=name)
    again = pickle.loads(pickle.dumps(listed))
    try:
        assert listed.shm.name == name and repr(again) == f"ShareableList(['abc', 1, None, 2.5], name={name!r})"
        again[2] = "four"
        again[-1] = True
        assert list(listed) == ["abc", 1, "four", True] and listed.index(True) == 1 and listed.count("four") == 1
        with pytest.raises(ValueError, match="exceeds available storage"):
            again[0] = "123456789"
        with pytest.raises(IndexError):
            again[4]
        other = shared_memory.ShareableList(listed)
        assert list(other) == list(listed)
        other.shm.close()
        other.shm.unlink()
    finally:
        for it in (listed, again):
            it.shm.close()
        listed.shm.unlink()


def test_text_of_a_list_is_measured_in_bytes() -> None:
    items = ["é" * 9, "日本語日本語", "é", "123456é"]
    listed = shared_memory.ShareableList(items)
    assert list(listed) == items and listed.format == "24s24s8s8s"
    listed.shm.close()
    listed.shm.unlink()


def test_a_list_that_cannot_be_leaves_nothing(name: str) -> None:
    with pytest.raises(struct.error):
        shared_memory.ShareableList([2**70], name=name)
    assert not exists(name)
    with pytest.raises(KeyError):
        shared_memory.ShareableList([object()], name=name)
    empty = shared_memory.ShareableList(name=None)
    assert (len(empty), list(empty), empty.format) == (0, [], "")
    empty.shm.close()
    empty.shm.unlink()
