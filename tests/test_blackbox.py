"""The memory that outlives a child: what is kept of stderr is whole whenever the child is killed, and nothing that a
child writes there harms the parent."""

from __future__ import annotations

import copy
import mmap
import os
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py.birth import _page_descriptor
from relieve_py.blackbox import BYTES, DUMP_SIGNAL, LINES, RING, RING_AT, STACKS, STACKS_AT, WELCOMES, Reader, Ring


class Killed(BaseException):
    """The child is gone."""


class Fragile:
    """Memory whose writer is killed at its n-th store; half-way through it, when it is a store of bytes."""

    def __init__(self, memory: Any, stores: Iterator[int]) -> None:
        self._memory = memory
        self._stores = stores  # counts down

    def __getitem__(self, place: Any) -> Any:
        return self._memory[place]

    def __setitem__(self, place: Any, value: Any) -> None:
        if next(self._stores) == 0:
            if isinstance(place, slice):
                first = place.start or 0
                self._memory[first : first + len(value) // 2] = value[: len(value) // 2]
            raise Killed
        self._memory[place] = value


class Both:
    """Both sides of such memory."""

    def __init__(self) -> None:
        fd = _page_descriptor()
        self.reader = Reader(fd)
        self.childs_fd = os.dup(fd)  # as a descriptor that was passed
        self._childs = mmap.mmap(fd, BYTES)
        self.child = memoryview(self._childs)
        self.numbers = self.child.cast("Q")
        self.ring = Ring(self.child)
        os.close(fd)

    def write(self, data: bytes) -> None:
        """The child writes to stderr."""
        self.ring.keep(memoryview(data))

    def close(self) -> None:
        """Both let go of it."""
        self.reader.close()
        for view in (self.ring._numbers, self.ring._ring, self.numbers, self.child):
            view.release()
        self._childs.close()
        os.close(self.childs_fd)


@pytest.fixture
def box() -> Iterator[Both]:
    """Both sides of new memory."""
    both = Both()
    yield both
    both.close()


def lines_of(size: int, first: int = 0) -> Iterator[bytes]:
    """Endless numbered lines, up to that long."""
    for number in count(first):
        yield b"%d %s\n" % (number, b"x" * (number * 7919 % size))


def write_for_ever(ring: Ring, lines: Iterator[bytes], written: list[bytes]) -> None:
    """Until the end."""
    for line in lines:
        written.append(line)
        ring.keep(memoryview(line))


def test_nothing_was_written(box: Both) -> None:
    assert box.reader.stderr_lines() == ()
    assert box.reader.stacks() is None
    assert box.reader.begun == 0
    assert not box.reader.welcomes_dump


def test_the_last_lines_are_read_however_they_were_written(box: Both) -> None:
    for piece in (b"one\ntw", b"o", b"\r\n\nfour\nfi", b"ve"):
        box.write(piece)
    assert box.reader.stderr_lines() == ("one", "two", "", "four", "five")
    assert box.reader.stderr_lines(2) == ("four", "five")


@pytest.mark.parametrize("size", [1, 300, RING // 3, RING - 8])
def test_the_ring_goes_round(box: Both, size: int) -> None:
    written: list[str] = []
    for line, _ in zip(lines_of(size), range(3 * RING // size + 200 if size > 1 else 20_000), strict=False):
        box.write(line)
        written.append(line.decode().rstrip("\n"))
    kept = box.reader.stderr_lines()
    assert list(kept) == written[-len(kept) :]
    assert len(kept) == LINES or size > 300


@pytest.mark.parametrize("size", [RING - 1, RING, RING + 1, 5 * RING + 17])
def test_one_write_that_fills_the_ring(box: Both, size: int) -> None:
    box.write(b"before\n")
    box.write(b"y" * size)
    (line,) = box.reader.stderr_lines()
    assert set(line) == {"y"}
    assert RING // 2 <= len(line) <= RING
    box.write(b"\nafter\n")
    assert box.reader.stderr_lines()[-1] == "after"


@pytest.mark.parametrize("size", [20, 3000])
@pytest.mark.parametrize("stores", range(12))
def test_a_writer_that_is_killed_at_any_store_leaves_whole_lines(box: Both, size: int, stores: int) -> None:
    written: list[bytes] = []
    lines = lines_of(size)
    size_written = 0
    while size_written < RING:  # so that it has gone round
        written.append(next(lines))
        box.write(written[-1])
        size_written += len(written[-1])
    dying, left = copy.copy(box.ring), count(stores, -1)
    dying._numbers = Fragile(box.numbers, left)  # type: ignore[assignment]
    dying._ring = Fragile(box.ring._ring, left)  # type: ignore[assignment]
    with pytest.raises(Killed):
        write_for_ever(dying, lines, written)
    kept = [line.encode() + b"\n" for line in box.reader.stderr_lines(RING)]
    assert sum(map(len, kept)) > RING - 3 * size
    assert kept in (written[-len(kept) :], written[-len(kept) - 1 : -1]), "the line of the death is there, or is not"


@given(st.lists(st.integers(0, 2**64 - 1), min_size=5, max_size=5), st.binary(max_size=64), st.booleans())
def test_whatever_a_child_writes_the_parent_reads_within_its_bounds(
    numbers: list[int], text: bytes, full: bool
) -> None:
    box = Both()
    for place, number in enumerate(numbers):
        box.numbers[place] = number
    box.child[RING_AT : RING_AT + len(text)] = text
    box.child[STACKS_AT : STACKS_AT + len(text)] = text
    if full:
        box.child[STACKS_AT:] = b"z" * STACKS
    assert sum(map(len, box.reader.stderr_lines())) <= RING
    assert len(box.reader.stacks() or "") <= STACKS
    assert box.reader.begun == numbers[0]
    box.close()


def test_stacks_end_at_the_first_zero(box: Both) -> None:
    box.child[STACKS_AT : STACKS_AT + 12] = b"stack\0\0older"
    assert box.reader.stacks() == "stack"


def test_a_dump_is_welcome_once_the_child_says_so(box: Both) -> None:
    box.numbers[WELCOMES] = 1
    assert box.reader.welcomes_dump == (sys.platform == "linux")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has seals")
def test_a_child_cannot_change_the_size_of_what_the_parent_reads() -> None:
    fd = _page_descriptor()
    try:
        for size in (0, 2 * BYTES):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
        assert os.pwrite(fd, b"x" * 100, BYTES - 10) == 10, "what does not fit is left out"
    finally:
        os.close(fd)


@pytest.mark.skipif(DUMP_SIGNAL is None, reason="there are no real-time signals")
def test_stacks_that_are_out_of_date_make_room_for_the_next(box: Both) -> None:
    for _ in range(3):
        assert os.write(box.childs_fd, b"x" * STACKS) == STACKS
        assert box.reader.stacks() == "x" * STACKS
        box.reader.forget_stacks()
        assert box.reader.stacks() is None
    os.write(box.childs_fd, b"once")
    assert box.reader.stacks() == "once"


@pytest.mark.skipif(DUMP_SIGNAL is None, reason="there are no real-time signals")
def test_a_child_that_writes_meanwhile_is_still_heard_the_next_time(box: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_then(*args: Any) -> int:
        place = seek(*args)
        os.write(box.childs_fd, b"and goes on")
        return place

    os.write(box.childs_fd, b"it begins ")
    seek = os.lseek
    monkeypatch.setattr(os, "lseek", write_then)
    box.reader.forget_stacks()
    monkeypatch.undo()
    for _ in range(2):
        box.reader.forget_stacks()
        os.write(box.childs_fd, b"once")
        assert (box.reader.stacks() or "").startswith("once")
