"""Large parts of frames through shared memory: both ways over one channel, and by the socket whenever that fails."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py import lending, segments
from relieve_py.channel import Channel, pair
from relieve_py.errors import EncodeError, ProtocolError
from relieve_py.lending import COPY, LEND, LEND_ONE, OBJECTS, PAYLOAD, READ, TRIM, WRITE, LendingChild, LendingParent
from relieve_py.segments import PAGE, Share
from relieve_py.serializers import Descriptors, PickleSerializer, decode_frame
from relieve_py.wire import LENT, MAX_DESCRIPTORS, WISH, Frame, Kind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs memfd_create")

LARGE = bytes(range(256)) * (LEND // 256)
PICKLE = PickleSerializer()


class Ends:
    """A parent's and a child's channel, and what the parent was told to do soon."""

    def __init__(self, may: bool = True) -> None:
        ours, theirs = pair()
        theirs.setblocking(False)
        self.parent = Channel(ours, lending=LendingParent(may))
        self.child = Channel(theirs, lending=LendingChild())
        self.calls = 0
        self.parent.attend(self.call)

    def call(self) -> None:
        self.calls += 1

    def down(self, frame: Frame) -> list[Frame]:
        """Send it to the child; what arrives."""
        done, frames = self.parent.post(frame), self.child.receive()
        while not done or not frames:
            done = self.parent.flush()
            frames += self.child.receive()
        return frames

    def up(self, frame: Frame) -> list[Frame]:
        """Send it to the parent; what arrives."""
        done, frames = self.child.post(frame), self.parent.receive()
        while not done or not frames:
            done = self.child.flush()
            frames += self.parent.receive()
        return frames

    def tend(self, late: bool = False) -> bool:
        """What the parent does when it was told; and the child takes what that sends."""
        again = self.parent.tend(late)
        assert self.child.receive() == []
        return again

    def warm(self) -> None:
        """Until both lend."""
        self.down(Frame(Kind.CALL, 1, LARGE))
        self.up(Frame(Kind.RESULT, 1, LARGE))
        self.tend()

    def close(self) -> None:
        self.parent.close()
        self.child.close()


@contextmanager
def both_ends(may: bool = True) -> Iterator[Ends]:
    ends = Ends(may)
    try:
        yield ends
    finally:
        ends.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    with both_ends() as both:
        yield both


@pytest.fixture
def warm(ends: Ends) -> Ends:
    ends.warm()
    return ends


def content(frame: Frame) -> tuple[int, int, int, bytes, list[bytes]]:
    return frame.kind, frame.number, frame.flags, bytes(frame.payload), [bytes(part) for part in frame.buffers]


SHAPES = [
    (LARGE, []),
    (b"small", [LARGE]),
    (b"", [LARGE, b"", LARGE[:20000], b"x"]),
    (LARGE[:20000], [LARGE]),
    (b"many", [LARGE[:20000]] * 10),
]


@pytest.mark.parametrize(("payload", "buffers"), SHAPES)
def test_frames_of_any_shape_are_lent_both_ways_and_arrive_whole(
    warm: Ends, payload: bytes, buffers: list[bytes]
) -> None:
    for send, kind in ((warm.down, Kind.CALL), (warm.up, Kind.RESULT)):
        for flags in (0, 3):
            frame = Frame(kind, 7, payload, buffers, flags=flags)
            (got,) = send(frame)
            assert content(got) == content(frame)
            assert all(type(part) is memoryview and not part.readonly for part in got.buffers)
            assert frame.flags == flags


def spliced(*parts: bytes) -> Frame:
    """A frame for what has these large bytes objects, and nothing else that is large."""
    payload = PICKLE.encode(("name", parts))
    assert list(payload.buffers) == list(parts)
    return payload.to_frame(Kind.CALL, 5)


@pytest.mark.parametrize("parts", [(LARGE,), (LARGE, LARGE[:1] + LARGE), (LARGE + b"x", LARGE * 2)])
def test_what_will_be_bytes_arrives_as_bytes_and_its_block_is_free_at_once(
    warm: Ends, parts: tuple[bytes, ...]
) -> None:
    for send, channel in ((warm.down, warm.parent), (warm.up, warm.child)):
        (got,) = send(spliced(*parts))
        assert got.buffers == parts
        assert {type(part) for part in got.buffers} == {bytes}
        assert decode_frame(PICKLE, got, "it") == ("name", parts)
        (again,) = send(spliced(*parts))
        assert channel.lending is not None
        assert channel.lending.lender is not None
        assert [block.start for block in channel.lending.lender._blocks.lent] == [PAGE]  # of the second
        assert again.buffers == got.buffers == parts


def test_many_bytes_are_copied_by_who_wants_them_and_not_by_who_receives_them(warm: Ends) -> None:
    (got,) = warm.down(spliced(LARGE * (1 + COPY // LEND)))
    assert type(got.buffers[0]) is memoryview
    assert decode_frame(PICKLE, got, "it") == ("name", (LARGE * (1 + COPY // LEND),))


def test_what_is_not_bytes_in_the_end_arrives_as_a_view_beside_bytes(warm: Ends) -> None:
    payload = PICKLE.encode([LARGE, bytearray(LARGE), pickle.PickleBuffer(LARGE)])
    (got,) = warm.up(payload.to_frame(Kind.RESULT, 5))
    assert {type(part) for part in got.buffers} == {memoryview}
    back = decode_frame(PICKLE, got, "it")
    assert (back[0], back[1], bytes(back[2])) == (LARGE, LARGE, LARGE)


def test_what_is_lent_does_not_go_through_the_socket(warm: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = warm.child._decoder.filled
    monkeypatch.setattr(warm.child._decoder, "filled", lambda n: (sizes.append(n), real(n))[1])
    warm.down(Frame(Kind.CALL, 1, LARGE * 8, [LARGE]))
    assert sum(sizes) < 200


def test_the_first_large_frames_travel_as_they_are_and_bring_the_segments(ends: Ends) -> None:
    (first,) = ends.down(Frame(Kind.CALL, 1, LARGE))
    assert type(first.payload) is bytearray
    (second,) = ends.down(Frame(Kind.CALL, 2, LARGE))
    assert type(second.payload) is memoryview
    (third,) = ends.up(Frame(Kind.RESULT, 1, LARGE))
    assert type(third.payload) is bytearray
    assert (third.flags, ends.calls) == (0, 1)
    ends.tend()
    (fourth,) = ends.up(Frame(Kind.RESULT, 2, LARGE))
    assert type(fourth.payload) is memoryview
    assert first.payload == second.payload == third.payload == fourth.payload == LARGE


def test_small_frames_are_not_lent(warm: Ends) -> None:
    half = LARGE[: LEND_ONE - 1]
    for frame in (
        Frame(Kind.CALL, 1, LARGE[:-1]),
        Frame(Kind.CALL, 1, b"", [LARGE[:1000]] * 60),
        Frame(Kind.CALL, 1, b"", [half]),
        Frame(Kind.CALL, 1, b"", [half, half]),
    ):
        (got,) = warm.down(frame)
        assert content(got) == content(frame)
        assert warm.parent.lending is not None
        assert warm.parent.lending.lender is not None
        assert len(warm.parent.lending.lender._blocks) == 0
    (got,) = warm.down(Frame(Kind.CALL, 1, b"small", [LARGE[:LEND_ONE]]))
    assert got.buffers[0].readonly is False


def test_memory_that_is_held_is_not_written_again_and_what_finds_no_room_travels_as_it_is(
    warm: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[Frame, int]] = []
    for n in range(300):  # more than there are slots
        (got,) = warm.up(Frame(Kind.ITEM, n, b"", [bytes([n % 251]) * LEND]))
        held.append((got, n % 251))
    assert {type(got.buffers[0]) for got, _ in held} == {memoryview}
    assert all(bytes(got.buffers[0]) == bytes([n]) * LEND for got, n in held)
    assert {type(got.buffers[0].obj).__name__ for got, _ in held} == {f"c_char_Array_{segment_size(warm)}", "bytearray"}


def segment_size(ends: Ends) -> int:
    lend = ends.parent.lending
    assert lend is not None
    assert lend.borrower is not None
    return lend.borrower._size


def test_descriptors_go_with_what_is_lent(warm: Ends) -> None:
    read, write = os.pipe()
    (got,) = warm.down(Frame(Kind.CALL, 1, LARGE, fds=(write,)))
    os.close(write)
    assert isinstance(got.owner, Descriptors)
    os.write(got.owner.fds[0], b"through")
    assert os.read(read, 10) == b"through"
    os.close(read)


def test_a_frame_that_may_not_travel_takes_no_room(warm: Ends) -> None:
    too_many = Frame(Kind.RESULT, 1, LARGE, fds=[0] * (MAX_DESCRIPTORS + 1))
    for channel in (warm.parent, warm.child):
        with pytest.raises(EncodeError, match="descriptors"):
            channel.post(too_many)
        assert channel.lending is not None
        assert channel.lending.lender is not None
        assert len(channel.lending.lender._blocks) == 0


def test_a_frame_that_waits_for_room_in_the_socket_is_lent_all_the_same(warm: Ends) -> None:
    count = 0
    while warm.parent.post(Frame(Kind.EVENT, count, bytes(1000))):
        count += 1
    warm.parent.post(Frame(Kind.CALL, 1, LARGE))
    frames: list[Frame] = []
    while len(frames) < count + 2:
        frames += warm.child.receive()
        warm.parent.flush()
    assert type(frames[-1].payload) is memoryview
    assert frames[-1].payload == LARGE


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "STEP", LEND // 8)
    monkeypatch.setattr(segments, "AT_ONCE", LEND // 2)


def test_a_very_large_frame_is_copied_in_steps_and_what_is_sent_behind_it_stays_behind(
    warm: Ends, small_steps: None
) -> None:
    posted = [Frame(Kind.EVENT, 1, b"before")]
    posted += [Frame(Kind.CALL, 2, LARGE * 3, [LARGE]), Frame(Kind.CANCEL, 2), Frame(Kind.CALL, 3, b"", [LARGE * 2])]
    posted += [Frame(Kind.EVENT, n, bytes(9)) for n in range(4, 8)]
    assert [warm.parent.post(frame) for frame in posted] == [True] + [False] * 7
    frames, left = warm.child.receive(), [warm.parent.queued]
    while not warm.parent.flush():
        left.append(warm.parent.queued)
        frames += warm.child.receive()
    assert len(left) > 8
    assert 0 not in left  # who sends looks at that to see whether there is more to do
    assert warm.parent.queued == 0
    while len(frames) < len(posted):
        frames += warm.child.receive()
    assert list(map(content, frames)) == list(map(content, posted))
    assert [frame.number for frame in frames if any(type(part) is memoryview for part in (*frame.buffers,))] == [2, 3]


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_frame_whose_copying_finds_no_memory_goes_as_it_is(
    ends: Ends, small_steps: None, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    ends.warm()
    real, calls = os.pwrite, []

    def full(fd: int, data: object, place: int) -> int:
        calls.append(place)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data, place)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "pwrite", full)
    frame = Frame(Kind.CALL, 1, b"p", [LARGE * 4])
    (got,) = ends.down(frame)
    assert content(got) == content(frame)
    assert len(calls) == after + 1
    monkeypatch.undo()
    (again,) = ends.down(frame)
    assert type(again.buffers[0]) is memoryview
    assert ends.parent.queued == 0


def test_a_channel_may_end_in_the_middle_of_a_copy(warm: Ends, small_steps: None) -> None:
    assert not warm.parent.post(Frame(Kind.CALL, 1, LARGE * 4))
    warm.close()
    assert warm.parent.queued == 0


def test_memory_is_given_back_that_was_not_used_for_a_while(warm: Ends) -> None:
    warm.down(Frame(Kind.CALL, 1, LARGE * 4))
    warm.up(Frame(Kind.CALL, 1, LARGE * 4))
    assert warm.parent.kept >= 8 * LEND
    assert warm.tend(late=True)  # it was used since
    assert warm.parent.kept >= 8 * LEND
    assert not warm.tend(late=True)
    assert warm.parent.kept == 0
    assert allocated(warm) == [PAGE, PAGE]
    calls = warm.calls
    (got,) = warm.up(Frame(Kind.CALL, 1, LARGE))
    assert warm.calls == calls + 1
    assert got.payload == LARGE


def allocated(ends: Ends) -> list[int]:
    """Bytes of memory of the segment of each way."""
    lend = ends.child.lending, ends.parent.lending
    found = [it.lender._fd for it in lend if it is not None and it.lender is not None]
    return [os.fstat(fd).st_blocks * 512 for fd in found]


def test_a_channel_that_gets_another_owner_tells_that_one(warm: Ends) -> None:
    told: list[bool] = []
    warm.parent.attend(lambda: told.append(True))
    assert told == [True]
    assert warm.tend()


def test_both_ends_let_go_of_everything(ends: Ends) -> None:
    before = len(Share._all)
    ends.warm()
    (got,) = ends.up(Frame(Kind.RESULT, 1, LARGE))
    assert len(Share._all) == before + 2
    ends.close()
    assert len(Share._all) == before
    assert got.payload == LARGE


# -- when there is none ----------------------------------------------------------------------------


def exchange(ends: Ends) -> None:
    """Large frames arrive both ways, again and again, and no segment is made."""
    for n in range(3):
        (down,) = ends.down(Frame(Kind.CALL, n, b"p", [LARGE]))
        (up,) = ends.up(Frame(Kind.RESULT, n, LARGE))
        assert (bytes(down.buffers[0]), bytes(up.payload), up.flags) == (LARGE, LARGE, 0)
        ends.tend()
        assert [type(found.obj if type(found) is memoryview else found) for found in (down.buffers[0], up.payload)] == [
            bytearray,
            bytearray,
        ]


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOMEM, errno.EMFILE])
def test_without_such_memory_all_goes_through_the_socket(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def refuse(*args: object) -> int:
        raise OSError(error, "no")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with both_ends() as ends:
        exchange(ends)


def test_a_child_that_has_no_room_for_a_mapping_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int) -> Any:
        raise OSError(errno.ENOMEM, "no")

    monkeypatch.setattr(lending, "Borrower", refuse)
    monkeypatch.setattr(lending, "Lender", lambda fd: refuse(fd) if fd < 0 else segments.Lender(fd))
    with both_ends() as ends:
        exchange(ends)


def test_no_segment_is_made_for_a_child_that_may_not_have_any() -> None:
    with both_ends(may=False) as ends:
        exchange(ends)
        assert ends.calls == 0


def test_a_child_without_a_descriptor_to_spare_goes_on_without() -> None:
    with both_ends() as ends:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        ends.parent.post(Frame(Kind.CALL, 1, LARGE))
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
        spare: list[int] = []
        try:
            while True:
                spare.append(os.dup(0))
        except OSError:
            pass
        try:
            frames = ends.child.receive()
            while not frames:
                ends.parent.flush()
                frames = ends.child.receive()
        finally:
            for fd in spare:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert [content(frame) for frame in frames] == [content(Frame(Kind.CALL, 1, LARGE))]
        (got,) = ends.down(Frame(Kind.CALL, 2, LARGE))
        assert type(got.payload) is bytearray


# -- what must not be sent -------------------------------------------------------------------------


def test_where_nothing_is_lent_a_frame_that_says_so_is_refused() -> None:
    ours, theirs = pair()
    sender, receiver = Channel(ours), Channel(theirs)
    for flags in (LENT, WISH):
        sender.post(Frame(Kind.CALL, 1, b"", flags=flags))
        with pytest.raises(ProtocolError, match="nothing is lent"):
            receiver.receive()
    sender.close()
    receiver.close()


def test_frames_before_a_wrong_one_are_received(warm: Ends) -> None:
    warm.child.post(Frame(Kind.RESULT, 1, b"fine"))
    warm.child.post(Frame(Kind.RESULT, 2, b"wrong", flags=LENT))
    assert [content(frame) for frame in warm.parent.receive()] == [content(Frame(Kind.RESULT, 1, b"fine"))]
    assert isinstance(warm.parent.broken, ProtocolError)
    with pytest.raises(ProtocolError):
        warm.parent.receive()


@pytest.mark.parametrize("number", [WRITE, READ, TRIM])
def test_a_child_may_not_make_segments(warm: Ends, number: int) -> None:
    warm.child.post(Frame(Kind.SEGMENT, number, bytes(8), flags=LENT))
    with pytest.raises(ProtocolError, match="makes no segments"):
        warm.parent.receive()


def test_a_frame_that_is_lent_before_there_is_a_segment_is_refused(ends: Ends) -> None:
    ends.child.post(Frame(Kind.RESULT, 1, bytes(100), flags=LENT))
    with pytest.raises(ProtocolError):
        ends.parent.receive()


numbers = st.one_of(st.integers(0, 5), st.sampled_from([PAGE, PAGE * 2, 2**31, 2**32 - 1]))
large_numbers = st.one_of(numbers, st.sampled_from([2**40, 2**63, 2**64 - 1]))


@given(
    st.lists(large_numbers, max_size=4),
    large_numbers,
    large_numbers,
    numbers,
    st.one_of(st.none(), numbers),
    numbers,
    st.binary(max_size=30),
)
def test_no_frame_of_a_child_does_worse_than_to_be_refused(
    lengths: list[int], use: int, start: int, slot: int, count: int | None, what: int, front: bytes
) -> None:
    with both_ends() as ends:
        ends.warm()
        tail = struct.pack("<QQIII", use, start, slot, len(lengths) if count is None else count, what)
        payload = front + struct.pack(f"<{len(lengths)}Q", *lengths) + tail
        ends.child.post(Frame(Kind.RESULT, 1, payload, flags=LENT))
        try:
            frames = ends.parent.receive()
        except ProtocolError:
            return
        (frame,) = frames
        assert what <= OBJECTS
        assert [len(part) for part in frame.buffers] == lengths[what == PAYLOAD :]
        assert len(frame.payload) == lengths[0] if what == PAYLOAD else frame.payload == front
        assert all(bytes(part) is not None for part in frame.buffers)
