"""Memory that two ends share: what was lent is not written again while a view of it is there, and nothing is kept for
ever."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py import segments
from relieve_py.blocks import Block
from relieve_py.errors import ProtocolError
from relieve_py.segments import ALIGN, LEAST, MOST, PAGE, Borrower, Lender, Share, padded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs memfd_create")

SIZE = PAGE * 65


class Ends:
    """Both ends of one segment."""

    seen: memoryview

    def __init__(self, size: int = SIZE) -> None:
        fd = segments._make(size)
        self.path = f"/proc/self/fd/{fd}"
        self.fd = fd
        self.lender = Lender(fd)
        self.borrower = Borrower(fd)

    def allocated(self) -> int:
        """Bytes of memory that the segment has, beside its page of numbers."""
        return os.fstat(self.fd).st_blocks * 512 - PAGE

    def send(self, *parts: bytes) -> memoryview | None:
        """Lend the parts, and see them; None when they are refused."""
        block = self.lender.lend(parts)
        return None if block is None else self.borrower.borrow(block)


@pytest.fixture
def ends() -> Iterator[Ends]:
    both = Ends()
    yield both
    both.borrower.close()
    both.lender.close()


def test_parts_arrive_each_at_an_aligned_place_and_can_be_written_to(ends: Ends) -> None:
    parts = [b"a" * 100, b"", b"b" * (PAGE + 1), np.arange(7, dtype="f8").tobytes()]
    view = ends.send(*parts)
    assert view is not None
    place = 0
    for part in parts:
        assert view[place : place + len(part)] == part
        place += padded(len(part))
    assert place % ALIGN == 0
    view[0] = 255
    assert view[:2] == b"\xffa"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(1, 20 * PAGE), st.integers(0, 255)),
            st.floats(0, 1, exclude_max=True),
            st.just("trim"),
            st.just("close the eyes"),
        ),
        max_size=50,
    )
)
def test_what_is_seen_stays_as_it_was_lent_whatever_is_lent_dropped_or_trimmed(
    history: list[tuple[int, int] | float | str],
) -> None:
    both = Ends()
    play(both, history)
    both.lender.trim(0)
    assert both.allocated() == 0
    both.borrower.close()


def play(both: Ends, history: list[tuple[int, int] | float | str]) -> None:
    seen: list[tuple[memoryview, bytes]] = []
    for step in history:
        if isinstance(step, tuple):
            content = bytes([step[1]]) * step[0]
            view = both.send(content)
            if view is not None:
                seen.append((view[: len(content)], content))
        elif isinstance(step, float):
            if seen:
                del seen[int(step * len(seen))]
        elif step == "trim":
            both.lender.trim(0)
        elif seen:  # what holds a view may be another view of it, or an array
            view, content = seen.pop()
            seen.append((memoryview(np.frombuffer(view[:], "u1")[: len(content) // 2]), content[: len(content) // 2]))
        assert all(view == content for view, content in seen)


def test_memory_is_used_again_once_the_last_view_is_gone(ends: Ends) -> None:
    first = ends.lender.lend([b"x" * PAGE])
    assert first is not None
    view = ends.borrower.borrow(first)
    part = view[10:20]
    del view
    second = ends.lender.lend([b"y" * PAGE])
    assert second is not None
    assert second.start > first.start
    assert part == b"x" * 10
    del part
    third = ends.lender.lend([b"z" * PAGE])
    assert third is not None
    assert third.start == first.start


def test_a_copy_gives_the_block_back_at_once(ends: Ends) -> None:
    parts = [b"a" * 100, b"", b"b" * (PAGE + 1)]
    for _ in range(300):  # more than there are slots
        block = ends.lender.lend(parts)
        assert block is not None
        assert block.start == PAGE
        assert ends.borrower.copy(block, list(map(len, parts))) == tuple(parts)
    view = ends.send(b"seen")
    ends.lender.trim(0)
    assert view is not None
    assert view[:4] == b"seen"


def test_one_part_of_any_format_is_lent_to_cold_and_to_warm_memory(ends: Ends) -> None:
    numbers = memoryview(np.arange(2000, dtype="f8"))
    for part in (b"a" * 100, bytearray(b"b" * 5 * PAGE), numbers, numbers.cast("B")):
        nbytes = memoryview(part).nbytes
        for _ in range(2):  # the second time the memory is there
            block = ends.lender.lend((part,))
            assert block is not None
            assert (block.start, block.end) == (PAGE, PAGE + padded(nbytes))
            assert ends.borrower.copy(block, [nbytes]) == (bytes(part),)
    assert ends.lender.lend((b"c" * SIZE,)) is None  # there is no room
    view = ends.send(b"d" * 100)
    block = ends.lender.lend((b"e" * 100,))
    assert view is not None
    assert block is not None
    assert block.start == 2 * PAGE
    assert view[:100] == b"d" * 100


def test_one_part_for_which_there_is_no_memory_leaves_its_room(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        assert ends.lender.lend((b"a" * PAGE,)) is None
    block = ends.lender.lend((b"b" * PAGE,))
    assert block is not None
    assert block.start == PAGE
    assert ends.borrower.copy(block, [PAGE]) == (b"b" * PAGE,)


def test_what_cannot_be_seen_cannot_be_copied(ends: Ends) -> None:
    block = ends.lender.lend([b"a"])
    assert block is not None
    beyond = Block(PAGE, SIZE + 1, 3, block.use + 1)
    assert ends.borrower.copy(block, [1]) == (b"a",)
    for wrong in (block, beyond, Block(PAGE, PAGE + 1, 0, block.use + 1)):
        with pytest.raises(ProtocolError):
            ends.borrower.copy(wrong, [1])
    view = ends.send(b"b")
    with pytest.raises(ProtocolError, match="lent already"):
        ends.borrower.copy(Block(PAGE, PAGE + 1, block.slot, 100), [1])
    assert view is not None


def test_a_view_in_a_cycle_is_given_back_by_the_collector(ends: Ends) -> None:
    view = ends.send(b"x" * PAGE)
    cycle: list[object] = [view, view[5:] if view is not None else None]
    cycle.append(cycle)
    del view, cycle
    gc.collect()
    ends.lender.trim(0)
    assert ends.allocated() == 0


class Revenant:
    """In a cycle with itself; when the collector has found it, others send, and it looks again at what it sees."""

    def __init__(self, view: memoryview, ends: Ends) -> None:
        self.view, self.ends, self.me = view, ends, self

    def __del__(self) -> None:
        self.ends.send(b"b" * PAGE)
        self.ends.seen = self.view


def test_what_the_collector_finds_is_not_given_back_before_finalizers_have_seen_it(ends: Ends) -> None:
    view = ends.send(b"a" * PAGE)
    assert view is not None
    Revenant(view, ends)
    del view
    gc.collect()
    assert ends.seen == b"a" * PAGE
    assert ends.send(b"c" * PAGE) is not None
    assert ends.seen == b"a" * PAGE, "it has come back, and its memory is in use"
    del ends.seen


def test_what_does_not_fit_is_refused_until_there_is_room(ends: Ends) -> None:
    assert ends.send(bytes(SIZE)) is None
    view = ends.send(bytes(SIZE - PAGE))
    assert view is not None
    assert ends.send(b"x") is None
    del view
    assert ends.send(b"x") is not None


def test_nothing_is_lent_before_the_other_end_has_the_segment() -> None:
    lender = Lender(segments._make(SIZE))
    assert lender.lend([b"x"]) is None
    lender.close()


def test_a_system_without_memory_refuses_and_the_place_is_free_again(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: object, place: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert ends.send(b"x" * PAGE) is None
    block = ends.lender.lend([b"x" * PAGE])
    assert block is not None
    assert block.start == PAGE


def test_a_lender_that_is_busy_refuses(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may interrupt it, and send, too."""
    inside: list[Block | None] = []
    real = os.pwrite

    def interrupted(fd: int, data: memoryview, place: int) -> int:
        inside.append(ends.lender.lend([b"inner"]))
        ends.lender.trim(0)
        return real(fd, data, place)

    monkeypatch.setattr(os, "pwrite", interrupted)
    view = ends.send(b"outer")
    assert inside == [None]
    assert view is not None
    assert view[:5] == b"outer"


@pytest.mark.parametrize(
    "block",
    [
        Block(0, 10, 1, 9),
        Block(PAGE + 1, PAGE + 10, 1, 9),
        Block(PAGE, PAGE, 1, 9),
        Block(PAGE, PAGE - 1, 1, 9),
        Block(PAGE, SIZE + 1, 1, 9),
        Block(1 << 62, (1 << 62) + 5, 1, 9),
        Block(PAGE, PAGE + 10, 0, 9),
        Block(PAGE, PAGE + 10, PAGE // 8, 9),
        Block(PAGE, PAGE + 10, 1, 1),
    ],
)
def test_what_cannot_be_lent_is_refused(ends: Ends, block: Block) -> None:
    with pytest.raises(ProtocolError):
        ends.borrower.borrow(block)


def test_a_block_is_not_lent_twice(ends: Ends) -> None:
    block = ends.lender.lend([b"x"])
    assert block is not None
    view = ends.borrower.borrow(block)
    for again in (block, block._replace(use=block.use + 1), block._replace(slot=block.slot - 1)):
        with pytest.raises(ProtocolError):
            ends.borrower.borrow(again)
    del view


def test_nobody_can_change_the_size_of_a_segment(ends: Ends) -> None:
    """Who looks at memory that is not there any more is killed."""
    for size in (0, SIZE - PAGE, SIZE + PAGE):
        with pytest.raises(PermissionError):
            os.ftruncate(ends.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(ends.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_writer_that_takes_the_memory_away_leaves_zeros(ends: Ends) -> None:
    view = ends.send(b"x" * PAGE)
    with mmap.mmap(ends.fd, SIZE) as other:
        other.madvise(mmap.MADV_REMOVE)
    assert view is not None
    assert bytes(view) == bytes(PAGE)


def test_memory_is_kept_until_it_is_trimmed_as_far_as_it_is_not_lent(ends: Ends) -> None:
    first, second, third = (ends.send(bytes([n]) * 4 * PAGE) for n in (1, 2, 3))
    assert ends.lender.kept == 0
    del first, third
    assert ends.lender.kept == 8 * PAGE
    ends.lender.trim(3 * PAGE)
    assert ends.allocated() == 2 * PAGE + 4 * PAGE
    assert second == b"\2" * 4 * PAGE
    again = ends.send(b"\4" * 16 * PAGE)
    assert again == b"\4" * 16 * PAGE
    assert second == b"\2" * 4 * PAGE


def test_views_outlive_both_ends_and_only_their_memory_does() -> None:
    both = Ends()
    other = os.dup(both.fd)
    first, second = (both.send(bytes([n]) * 4 * PAGE) for n in (1, 2))
    both.lender.close()
    del first
    both.borrower.close()
    assert os.fstat(other).st_blocks * 512 == PAGE + 4 * PAGE
    assert second == b"\2" * 4 * PAGE
    del second
    assert os.fstat(other).st_blocks * 512 == PAGE
    os.close(other)


def test_what_a_fork_has_copied_is_not_used_again(ends: Ends) -> None:
    """The views of the copy show the same memory, and it is not told when they are gone."""
    block = ends.lender.lend([b"x" * PAGE])
    assert block is not None
    view = ends.borrower.borrow(block)
    pid = os.fork()
    if pid == 0:
        del view
        os._exit(0)
    os.waitpid(pid, 0)
    assert ends.borrower._marks[block.slot] != block.use  # the copy has let go of its view, not the original
    del view
    again = ends.lender.lend([b"y"])
    assert again is not None
    assert again.start > block.start
    ends.borrower.close()
    assert ends.allocated() == PAGE


def test_a_copy_that_lets_go_takes_nothing_away_from_the_original(ends: Ends) -> None:
    view = ends.send(b"x" * PAGE)
    under_way = ends.lender.lend([b"y" * PAGE])
    assert under_way is not None
    pid = os.fork()
    if pid == 0:
        ends.borrower.close()
        ends.lender.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert ends.borrower.borrow(under_way) == b"y" * PAGE
    assert view == b"x" * PAGE


# -- making ----------------------------------------------------------------------------------------


def test_a_share_is_bounded_by_the_memory_and_by_what_others_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_memory", lambda: 1 << 30)
    sizes = all_sizes()
    assert MOST >= sizes[0] > sizes[-1] >= LEAST
    assert sum(sizes) <= 1 << 28
    assert all_sizes() == sizes  # what was let go is there for others


def all_sizes() -> list[int]:
    """Of as many as there may be."""
    shares: list[Share] = []
    with contextlib.suppress(OSError):
        while len(shares) < 1000:
            shares.append(Share())
    for share in shares:
        os.close(share.fd)
    return [share.size for share in shares]


@pytest.mark.parametrize(
    "broken", ["no such call", "no memory", "no descriptor", "descriptors are scarce", "no seals", "strict memory"]
)
def test_a_system_that_has_no_such_memory_says_so_and_nothing_is_left_open(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def refuse(*args: object) -> int:
        raise OSError(errno.ENOSPC, "no")

    if broken == "no such call":
        monkeypatch.delattr(os, "memfd_create")
    elif broken == "no memory":
        monkeypatch.setattr(os, "ftruncate", refuse)
    elif broken == "no descriptor":
        monkeypatch.setattr(os, "memfd_create", refuse)
    elif broken == "descriptors are scarce":
        monkeypatch.setattr("resource.getrlimit", lambda which: (8, 8))
    elif broken == "no seals":
        monkeypatch.setattr(fcntl, "fcntl", refuse)
    else:
        monkeypatch.setattr("relieve_py.cgroups.read", lambda path: "2\n")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=r"\w"):
        segments._make(SIZE)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_the_memory_of_the_control_group_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "inner" / "memory.max").write_text("max\n")
    folders = [str(tmp_path / "inner"), str(tmp_path)]
    monkeypatch.setattr("relieve_py.cgroups.group_of", lambda text, controller: (2, "/inner"))
    monkeypatch.setattr("relieve_py.cgroups.directories_of", lambda *args: folders)
    assert segments._memory.__wrapped__() == 3000000
