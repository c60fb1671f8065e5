"""Frames over a socket: partial reads and writes, descriptors, the end of the channel, signals in the middle."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relieve_py import wire
from relieve_py.channel import Channel, pair, take_descriptors
from relieve_py.errors import EncodeError, ProtocolError
from relieve_py.wire import HEADER, HEADER_BYTES, MAX_DESCRIPTORS, VERSION, Frame, Kind, encode


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """The parent's end, which does not block, and the child's, which does."""
    with channels() as both:
        yield both


@contextlib.contextmanager
def channels() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = pair()
    parent, child = Channel(ours), Channel(theirs)
    try:
        yield parent, child
    finally:
        parent.close()
        child.close()


@contextlib.contextmanager
def raw_end() -> Iterator[tuple[socket.socket, Channel]]:
    """A plain socket, to write anything to, and the channel at its other end."""
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    try:
        yield ours, channel
    finally:
        ours.close()
        channel.close()


def drain(channel: Channel, count: int) -> list[Frame]:
    """Receive on a socket that blocks until ``count`` frames have come."""
    frames: list[Frame] = []
    while len(frames) < count:
        frames += channel.receive()
    return frames


def collect(channel: Channel, count: int, into: list[Frame]) -> threading.Thread:
    thread = threading.Thread(target=lambda: into.extend(drain(channel, count)))
    thread.start()
    return thread


def push(channel: Channel) -> None:
    """Flush until nothing is left; the other side reads meanwhile."""
    while not channel.flush():
        select.select([], [channel.fileno()], [])


def look(frame: Frame) -> tuple[object, ...]:
    return frame.kind, frame.number, bytes(frame.payload), [bytes(b) for b in frame.buffers], len(frame.fds)


# -- bytes -----------------------------------------------------------------------------------------


def test_frames_arrive_in_both_directions(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    assert parent.post(Frame(Kind.CALL, 1, b"question"))
    (question,) = drain(child, 1)
    child.send(Frame(Kind.RESULT, question.number, b"answer", [b"beside"]))
    (answer,) = parent.receive()
    assert look(answer) == (Kind.RESULT, 1, b"answer", [b"beside"], 0)


def test_the_parents_end_never_blocks(ends: tuple[Channel, Channel]) -> None:
    parent, _ = ends
    assert parent.receive() == []


def test_a_read_that_may_not_wait_returns_at_once_on_the_childs_end(ends: tuple[Channel, Channel]) -> None:
    _, child = ends
    assert child.receive(socket.MSG_DONTWAIT) == []


def test_neither_end_is_inherited_by_other_programs(ends: tuple[Channel, Channel]) -> None:
    assert [os.get_inheritable(end.fileno()) for end in ends] == [False, False]


def test_a_frame_whose_bytes_come_one_at_a_time() -> None:
    sent = Frame(Kind.RESULT, 9, b"payload", [b"buffer"])
    data = b"".join(bytes(chunk) for chunk in encode(sent))
    with raw_end() as (ours, channel):
        for byte in data[:-1]:
            ours.send(bytes([byte]))
            assert channel.receive() == []
        ours.send(data[-1:])
        (frame,) = channel.receive()
    assert look(frame) == look(sent)


def test_a_post_that_does_not_fit_is_kept_and_flushed(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    payload = os.urandom(3_000_000)
    assert not parent.post(Frame(Kind.CALL, 1, payload, [payload[:100_000], b""]))
    assert 0 < parent.queued < 3_200_000
    assert not parent.post(Frame(Kind.CALL, 2, b"behind it"))
    got: list[Frame] = []
    reader = collect(child, 2, got)
    push(parent)
    reader.join()
    assert parent.queued == 0
    assert [frame.number for frame in got] == [1, 2]
    assert got[0].payload == payload
    assert [bytes(buffer) for buffer in got[0].buffers] == [payload[:100_000], b""]


def test_what_is_queued_is_counted_to_the_byte(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    size = 2_000_000
    parent.post(Frame(Kind.CALL, 1, bytes(size)))
    queued = parent.queued
    taken = 0
    while select.select([child.fileno()], [], [], 0)[0]:
        taken += len(os.read(child.fileno(), 1 << 20))
    assert taken == HEADER_BYTES + size - queued


def test_a_frame_of_many_chunks_arrives(ends: tuple[Channel, Channel]) -> None:
    """More than one system call takes."""
    parent, child = ends
    buffers = [bytes([n % 256]) * (n % 700) for n in range(3000)]
    got: list[Frame] = []
    reader = collect(child, 1, got)
    parent.post(Frame(Kind.CALL, 1, b"head", buffers))
    push(parent)
    reader.join()
    assert [bytes(buffer) for buffer in got[0].buffers] == buffers


def test_the_blocking_end_sends_all_of_a_large_frame(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    payload = os.urandom(5_000_000)
    sender = threading.Thread(target=child.send, args=(Frame(Kind.RESULT, 1, payload, [payload[:9]] * 200),))
    sender.start()
    frames: list[Frame] = []
    while not frames:
        frames = parent.receive()
    sender.join()
    assert frames[0].payload == payload
    assert len(frames[0].buffers) == 200


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 200_000), st.lists(st.integers(0, 40_000), max_size=80), st.integers(0, 3)),
        max_size=12,
    ),
    st.integers(0, 1000),
)
def test_any_frames_posted_while_the_other_side_reads_arrive_in_order(
    shapes: list[tuple[int, list[int], int]], seed: int
) -> None:
    """Sizes, buffers and descriptors of every kind, against a reader that reads now and then."""
    rng = random.Random(seed)
    sent = [
        Frame(
            Kind.EVENT, n + 1, rng.randbytes(size), [rng.randbytes(length) for length in lengths], [null_device()] * fds
        )
        for n, (size, lengths, fds) in enumerate(shapes)
    ]
    got: list[Frame] = []
    with channels() as (parent, child):
        for frame in sent:
            parent.post(frame)
            if rng.random() < 0.3:
                got += child.receive(socket.MSG_DONTWAIT)
        while len(got) < len(sent):
            parent.flush()
            got += child.receive(socket.MSG_DONTWAIT)
    assert [look(frame) for frame in got] == [look(frame) for frame in sent]
    assert all(os.path.sameopenfile(fd, null_device()) for frame in got for fd in frame.fds)


_null: list[int] = []


def null_device() -> int:
    return _null[0]


@pytest.fixture(autouse=True, scope="module")
def _null_device() -> Iterator[None]:
    _null.append(os.open(os.devnull, os.O_RDONLY))
    yield
    os.close(_null.pop())


# -- descriptors -----------------------------------------------------------------------------------


def test_descriptors_come_with_their_own_frames(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    pipes = [os.pipe() for _ in range(4)]
    try:
        parent.post(Frame(Kind.CALL, 1, b"none"))
        parent.post(Frame(Kind.CALL, 2, b"two", fds=[pipes[0][1], pipes[1][1]]))
        parent.post(Frame(Kind.CALL, 3, b"none"))
        parent.post(Frame(Kind.CALL, 4, b"one", [b"a buffer"], fds=[pipes[2][1]]))
        parent.post(Frame(Kind.CALL, 5, b"one", fds=[pipes[3][1]]))
        frames = drain(child, 5)
        assert [len(frame.fds) for frame in frames] == [0, 2, 0, 1, 1]
        for place, fd in enumerate(fd for frame in frames for fd in frame.fds):
            assert not os.get_inheritable(fd)
            os.write(fd, b"%d" % place)
        assert [os.read(read, 9) for read, _ in pipes] == [b"0", b"1", b"2", b"3"]
    finally:
        for fd in (fd for ends_ in pipes for fd in ends_):
            os.close(fd)


def test_descriptors_of_a_frame_that_does_not_fit_come_once(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    parent.post(Frame(Kind.CALL, 1, bytes(2_000_000)))
    parent.post(Frame(Kind.CALL, 2, bytes(2_000_000), fds=[null_device()] * 3))
    parent.post(Frame(Kind.CALL, 3, b"", fds=[null_device()]))
    got: list[Frame] = []
    reader = collect(child, 3, got)
    push(parent)
    reader.join()
    assert [len(frame.fds) for frame in got] == [0, 3, 1]


def test_the_most_descriptors_of_one_frame_arrive(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    parent.post(Frame(Kind.CALL, 1, fds=[null_device()] * MAX_DESCRIPTORS))
    (frame,) = drain(child, 1)
    assert len(set(frame.fds)) == MAX_DESCRIPTORS


def test_the_blocking_end_sends_descriptors(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    child.send(Frame(Kind.RESULT, 1, b"x", fds=[null_device()]))
    (frame,) = parent.receive()
    assert os.path.sameopenfile(frame.fds[0], null_device())


def test_descriptors_are_closed_with_their_frame_unless_they_are_taken(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    child.send(Frame(Kind.RESULT, 1, fds=[null_device()] * 2))
    child.send(Frame(Kind.RESULT, 2, fds=[null_device()]))
    first, second = [frame for _ in range(2) for frame in parent.receive()]
    closed, kept = list(first.fds), take_descriptors(second)
    del first, second
    for fd in closed:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert os.path.sameopenfile(kept[0], null_device())
    os.close(kept[0])


def test_a_frame_without_descriptors_has_none_to_take(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    child.send(Frame(Kind.RESULT, 1))
    assert take_descriptors(*parent.receive()) == []


def test_descriptors_that_no_frame_announces_are_a_protocol_error() -> None:
    """Kept until somebody closes the channel, they would use up those of the process."""
    whole = b"".join(bytes(chunk) for chunk in encode(Frame(Kind.EVENT, 1, b"x")))
    with raw_end() as (ours, channel):
        socket.send_fds(ours, [whole], [null_device()])
        with pytest.raises(ProtocolError, match="no frame announces"):
            channel.receive()
    with raw_end() as (ours, channel):
        socket.send_fds(ours, [whole[:5]], [null_device()] * MAX_DESCRIPTORS)
        assert channel.receive() == []  # it may yet announce them
        socket.send_fds(ours, [whole[5:6]], [null_device()])
        with pytest.raises(ProtocolError, match="no frame announces"):
            channel.receive()


def test_close_closes_descriptors_that_no_frame_has_claimed() -> None:
    """Their frame never became complete. The fixture of all tests finds one that stays open."""
    sent = Frame(Kind.CALL, 1, bytes(100), fds=[null_device()] * 2)
    data = b"".join(bytes(chunk) for chunk in encode(sent))
    with raw_end() as (ours, channel):
        socket.send_fds(ours, [data[:-1]], list(sent.fds))
        assert channel.receive() == []


def test_descriptors_of_frames_before_garbage_are_closed() -> None:
    """Nobody takes them. The fixture of all tests finds a descriptor that stays open."""
    good = b"".join(bytes(chunk) for chunk in encode(Frame(Kind.CALL, 1, b"x", fds=[null_device()])))
    for bad in (b"\xff" * 40, HEADER.pack(VERSION, Kind.CALL, 2, 0, 0, 2, 0)):
        with raw_end() as (ours, channel):
            socket.send_fds(ours, [good + bad], [null_device()])
            with pytest.raises(ProtocolError):
                drain(channel, 2)


def test_descriptors_that_were_announced_and_did_not_come_are_a_protocol_error() -> None:
    with raw_end() as (ours, channel):
        ours.send(HEADER.pack(VERSION, Kind.CALL, 2, 0, 0, 1, 0))
        with pytest.raises(ProtocolError, match="descriptors that did not come"):
            channel.receive()


# -- limits and ends -------------------------------------------------------------------------------


def test_a_frame_that_may_not_travel_leaves_nothing_behind(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    with pytest.raises(EncodeError):
        parent.post(Frame(Kind.CALL, 1, fds=[null_device()] * (MAX_DESCRIPTORS + 1)))
    with pytest.raises(EncodeError):
        child.send(Frame(Kind.CALL, 1, fds=[null_device()] * (MAX_DESCRIPTORS + 1)))
    assert parent.queued == 0
    parent.post(Frame(Kind.CALL, 2, b"the next"))
    child.send(Frame(Kind.RESULT, 2, b"the next"))
    assert [frame.number for frame in drain(child, 1) + parent.receive()] == [2, 2]


def test_garbage_is_a_protocol_error() -> None:
    with raw_end() as (ours, channel):
        ours.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(ProtocolError, match="version"):
            channel.receive()


def test_a_frame_that_memory_does_not_suffice_for_is_a_protocol_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the sender's fault, and costs nobody else."""

    def none_left(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(wire._LargeFrame, "_begin_part", none_left)
    with raw_end() as (ours, channel):
        ours.send(HEADER.pack(VERSION, Kind.RESULT, 0, 0, 0, 1, 1 << 30))
        with pytest.raises(ProtocolError, match="more memory than there is"):
            channel.receive()


def test_a_socket_that_cannot_be_read_is_the_end() -> None:
    """Anything else would have the I/O thread try again and again."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    os.close(ours.detach())
    with pytest.raises(EOFError, match="Bad file descriptor"):
        channel.receive()
    theirs.close()


def test_the_end_is_told_after_the_frames_before_it(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    child.send(Frame(Kind.RESULT, 1, b"last words"))
    child.close()
    assert [bytes(frame.payload) for frame in parent.receive()] == [b"last words"]
    for _ in range(2):  # and again
        with pytest.raises(EOFError):
            parent.receive()


def test_frames_before_what_is_no_frame_are_not_lost() -> None:
    with raw_end() as (ours, channel):
        frame = b"".join(bytes(chunk) for chunk in wire.encode(Frame(Kind.RESULT, 1, b"last words")))
        ours.send(frame * 2 + b"\xff" * HEADER.size)
        assert [frame.number for frame in channel.receive()] == [1, 1]
        for _ in range(2):
            with pytest.raises(ProtocolError, match="version 255"):
                channel.receive()


def test_the_end_in_the_middle_of_a_frame_is_the_end() -> None:
    with raw_end() as (ours, channel):
        ours.send(HEADER.pack(VERSION, Kind.RESULT, 0, 0, 0, 1, 1000) + b"half")
        assert channel.receive() == []
        ours.close()
        with pytest.raises(EOFError):
            channel.receive()


def test_a_reset_connection_is_the_end(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    parent.post(Frame(Kind.CALL, 1, b"never read"))
    child.close()  # with unread data: the system resets the connection
    with pytest.raises(EOFError):
        parent.receive()


def test_what_a_signal_handler_raises_is_no_end_of_the_channel(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Alarmed:
        def recvmsg_into(self, *args: object) -> None:
            raise TimeoutError("of the program")

    monkeypatch.setattr(ends[0], "_sock", Alarmed())
    with pytest.raises(TimeoutError, match="of the program"):
        ends[0].receive()
    monkeypatch.undo()


def test_a_post_to_a_side_that_is_gone_is_dropped_and_raises_nothing(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    child.close()
    assert parent.post(Frame(Kind.CALL, 1, bytes(100_000), [bytes(100_000)]))
    assert parent.queued == 0
    with pytest.raises(EOFError):
        parent.receive()


def test_what_was_queued_for_a_side_that_goes_is_dropped(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    assert not parent.post(Frame(Kind.CALL, 1, bytes(3_000_000)))
    child.close()
    assert parent.flush()
    assert parent.queued == 0


@pytest.mark.parametrize("payload", [b"small", bytes(2_000_000)], ids=["small", "large"])
def test_a_send_to_a_side_that_is_gone_raises_an_os_error(ends: tuple[Channel, Channel], payload: bytes) -> None:
    parent, child = ends
    parent.close()
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        child.send(Frame(Kind.RESULT, 1, payload))


def test_a_frame_that_the_system_refuses_ends_the_channel_for_both_sides(ends: tuple[Channel, Channel]) -> None:
    """Dropped in silence, it would leave its call waiting for ever."""
    parent, _ = ends
    fd = os.dup(null_device())
    os.close(fd)
    assert parent.post(Frame(Kind.CALL, 1, b"with a closed descriptor", fds=[fd]))
    for end in ends:
        with pytest.raises(EOFError):
            end.receive()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere what has come would be lost, too")
def test_a_side_that_listens_no_more_is_gone_once_its_last_words_are_heard(ends: tuple[Channel, Channel]) -> None:
    """What is posted to it would be lost in silence, and its answer waited for without end."""
    parent, child = ends
    child.send(Frame(Kind.RESULT, 1, b"last words"))
    child._sock.shutdown(socket.SHUT_RD)
    assert parent.post(Frame(Kind.CALL, 2, b"not heard"))
    assert [bytes(frame.payload) for frame in parent.receive()] == [b"last words"]
    with pytest.raises(EOFError):
        parent.receive()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere what has come would be lost, too")
def test_of_a_dead_side_only_what_has_come_is_received(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    child.send(Frame(Kind.RESULT, 1, b"last words"))
    parent.expect_no_more()
    with pytest.raises(OSError, match="Broken pipe"):
        child.send(Frame(Kind.RESULT, 2, b"of a stranger"))
    assert [frame.number for frame in parent.receive()] == [1]
    assert parent.readable()
    with pytest.raises(EOFError):
        parent.receive()


def test_closing_twice_is_fine(ends: tuple[Channel, Channel]) -> None:
    parent, _ = ends
    parent.close()
    parent.close()
    assert parent.fileno() == -1


# -- signals ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def ticking(handler: object) -> Iterator[None]:
    """A signal every half millisecond."""
    before = signal.signal(signal.SIGUSR1, handler)  # type: ignore[arg-type]
    over = threading.Event()
    main = threading.get_ident()

    def tick() -> None:
        while not over.wait(0.0005):
            signal.pthread_kill(main, signal.SIGUSR1)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()
        signal.signal(signal.SIGUSR1, before)


def test_signals_interrupt_neither_sending_nor_receiving(ends: tuple[Channel, Channel]) -> None:
    parent, child = ends
    ticks: list[int] = []
    payload = os.urandom(300_000)

    def echo() -> None:
        for _ in range(40):
            frames: list[Frame] = []
            while not frames:
                select.select([parent.fileno()], [], [])
                frames = parent.receive()
            parent.post(frames[0])
            push(parent)

    other = threading.Thread(target=echo)
    other.start()
    with ticking(lambda signum, frame: ticks.append(signum)):
        for number in range(1, 41):
            child.send(Frame(Kind.EVENT, number, payload, [b"x"] if number % 2 else []))
            (frame,) = drain(child, 1)
            assert (frame.number, frame.payload) == (number, payload)
    other.join()
    assert ticks


def test_a_channel_that_nobody_reads_says_so() -> None:
    ours, theirs = pair()
    channel = Channel(theirs)
    assert not channel.lost
    ours.close()
    with pytest.raises(BrokenPipeError):
        channel.send(Frame(Kind.READY))
    assert channel.lost
    channel.close()
    assert channel.lost
