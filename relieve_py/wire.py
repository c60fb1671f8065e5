"""Frames to bytes and back: the only place that knows how a frame looks on the channel. No I/O.

A frame is a header of 24 bytes, the lengths of its buffers, its payload, and its buffers; integers are little-endian::

     0         1      2        3          4                8                  16                   24
     +---------+------+--------+----------+----------------+------------------+--------------------+
     | VERSION | kind | nfds   | flags    | nbuffers (u32) | number (u64)     | payload bytes (u64)|
     +---------+------+--------+----------+----------------+------------------+--------------------+
     | nbuffers x length (u64) | payload | buffer 0 | buffer 1 | ...

``number`` ties an answer to its question. ``nfds`` descriptors travel beside the first byte, as SCM_RIGHTS.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum

from relieve_py.errors import EncodeError, ProtocolError

Bytes = bytes | bytearray | memoryview
VERSION = 1
MAX_FRAME = 1 << 32
"""The largest frame, in bytes. More lets one child hold more of the parent's memory; less refuses honest results."""
MAX_BUFFERS = 8000
"""The most buffers of one frame: their table of lengths must fit into the decoder's scratch buffer."""
MAX_DESCRIPTORS = 250
"""The most descriptors of one frame; the kernel takes 253 in one message (SCM_MAX_FD)."""
MAX_QUESTIONS = 1000
"""Questions of a child that may be open at once; before it asks another, it waits. More: more memory of the parent for
answers to a child that reads none; less: one that asks many at once waits sooner for the first answers."""
STREAM_WINDOW = 32
"""Items of a stream that may travel before the reader has taken them. More: fewer pauses; less: less memory."""

STREAM_BYTES = 1 << 22
"""Bytes of items that may travel before that, not counting the one that exceeds it. More: fewer pauses between large
items; less: less memory."""

FED_ERROR, FED_OVER = 1, 2
"""Flags of a FED frame: its payload is the error of what produces the items; or the call is over."""

TELL = 1
"""Flag of a CANCEL frame: first write down where every thread is."""

LENT, WISH = 0x80, 0x40
"""Flags of any frame to or from a child: its large parts lie in a segment; or would, if there were one. See lending."""

HEADER = struct.Struct("<BBBBIQQ")
HEADER_BYTES = HEADER.size


class Kind(IntEnum):
    """What a frame is for. The comment says who sends it."""

    BOOT = 1  # parent: what to load and how to start it
    CALL = 2  # parent: run a function; flags say whether its value, its items or nothing is wanted
    CANCEL = 3  # parent: interrupt or drop that call; flags say whether to tell first where it is
    CREDIT = 4  # parent: that stream may send so many more items
    EVENT = 5  # both: a named event
    DELIVERED = 6  # both: the event with that number has arrived
    STOP = 7  # parent: finish, run stop(), leave
    READY = 8  # child: start() is done; calls are served
    FAILED = 9  # child: it could not become ready
    ACCEPTED = 10  # child: the call has arrived and will run
    RESULT = 11  # child: the call's value
    ERROR = 12  # child: the call raised
    ITEM = 13  # child: one item of a stream
    END = 14  # child: a stream has no more items; a call without value is done
    MISSING = 15  # child: no such export
    BUSY = 16  # child: no calls for now, please
    IDLE = 17  # child: calls are welcome again
    LEAVING = 18  # child: a call has ended it; it joins its threads and leaves
    PING = 19  # parent, also to the helper process: are you alive?
    PONG = 20  # child, helper process: yes
    TAKE = 21  # child: it has taken so many items of that stream among its arguments; none: it begins
    ENOUGH = 22  # child: it wants no more of that stream
    FEED = 23  # parent: one item of that stream
    FED = 24  # parent: that stream has ended; flags say how
    DRAIN = 25  # child: another in my place, once what is here is finished
    RETIRE = 26  # child: I want to leave for good, once what is here is finished
    RECORD = 27  # child: a log record, as JSON
    SEGMENT = 28  # parent: shared memory for large parts; see lending
    # between the parent and the helper process that launches and reaps
    LAUNCH = 32
    LAUNCHED = 33
    REFUSED = 34
    EXITED = 35
    SIGNAL = 36
    PRELOAD = 37  # parent: import this before anything is launched
    IMPORTING = 38  # helper process: the name of what is imported next
    IMPORTED = 39  # helper process: all of it is, or why not


class Frame:
    """One unit on the channel. ``payload`` and ``buffers`` are bytes-like; ``fds`` belong to the ``owner``, which keeps
    them open."""

    __slots__ = ("buffers", "fds", "flags", "kind", "number", "owner", "payload")

    def __init__(
        self,
        kind: int,
        number: int = 0,
        payload: Bytes = b"",
        buffers: Sequence[Bytes] = (),
        fds: Sequence[int] = (),
        flags: int = 0,
        owner: object = None,
    ) -> None:
        self.kind = kind
        self.number = number
        self.payload = payload
        self.buffers = buffers
        self.fds = fds
        self.flags = flags
        self.owner = owner

    def __repr__(self) -> str:
        name = Kind(self.kind).name if self.kind in _KINDS else self.kind
        return (
            f"<Frame {name} {self.number}: {len(self.payload)} bytes, {len(self.buffers)} buffers, {len(self.fds)} fds>"
        )


_KINDS = frozenset(int(kind) for kind in Kind)


def encode(frame: Frame) -> list[Bytes]:
    """The frame as chunks to write one after the other; large parts are not copied.

    Raises EncodeError when it is larger than MAX_FRAME, or has too many buffers or descriptors.
    """
    payload, buffers = frame.payload, frame.buffers
    nbytes = size_of(payload)
    if not buffers:
        if nbytes > MAX_FRAME or len(frame.fds) > MAX_DESCRIPTORS:
            check_size(nbytes, 0, len(frame.fds))
        head = HEADER.pack(VERSION, frame.kind, len(frame.fds), frame.flags, 0, frame.number, nbytes)
        return [b"".join((head, payload))] if nbytes <= JOIN_BELOW else [head, payload]
    lengths = [size_of(buffer) for buffer in buffers]
    check_size(nbytes + sum(lengths), len(lengths), len(frame.fds))
    head = HEADER.pack(VERSION, frame.kind, len(frame.fds), frame.flags, len(lengths), frame.number, nbytes)
    return [head + struct.pack(f"<{len(lengths)}Q", *lengths), payload, *buffers]


def encode_small(kind: int, number: int, payload: bytes, flags: int = 0) -> bytes:
    """A frame with nothing but that payload, which has JOIN_BELOW bytes at most, as one chunk."""
    return HEADER.pack(VERSION, kind, 0, flags, 0, number, len(payload)) + payload


def size_of(part: Bytes) -> int:
    """In bytes; ``len`` of a memoryview counts items."""
    return part.nbytes if isinstance(part, memoryview) else len(part)


JOIN_BELOW = 32768
"""Payloads up to this are copied behind their header: one chunk is cheaper to send than two, until copying costs
more."""


def check_size(nbytes: int, nbuffers: int, nfds: int) -> None:
    """Raise EncodeError, naming the limit, when a frame of this shape may not travel."""
    if nbytes > MAX_FRAME:
        raise EncodeError(f"a message of {nbytes:,} bytes is above the frame limit of {MAX_FRAME:,} bytes")
    if nbuffers > MAX_BUFFERS:
        raise EncodeError(f"a message with {nbuffers:,} buffers is above the limit of {MAX_BUFFERS:,}")
    if nfds > MAX_DESCRIPTORS:
        raise EncodeError(f"a message with {nfds} descriptors is above the limit of {MAX_DESCRIPTORS}")


class Decoder:
    """Bytes in, frames out. Ask where the next bytes go, fill that, and say how many there were::

        view = decoder.space()
        frames = decoder.filled(sock.recv_into(view))

    The view is good until then. Small frames are cut out of one scratch buffer; a large part is received straight into
    its own memory, so that it is copied once, by the kernel.
    """

    SCRATCH = 65536

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._scratch = bytearray(self.SCRATCH)
        self._view = memoryview(self._scratch)
        self._start = 0  # scratch[start:end] holds what is not yet cut into frames
        self._end = 0
        self._large: _LargeFrame | None = None
        self.announced = 0  # descriptors of the frames that were returned last
        self.broken: ProtocolError | None = None  # what came behind the frames that were returned last is no frame

    @property
    def midway(self) -> bool:
        """True while part of a frame has arrived and the rest has not."""
        return self._large is not None or self._end > self._start

    def space(self) -> memoryview:
        """Where the next bytes of the channel belong; never empty."""
        if self._large is not None:
            return self._large.space()
        if self._start == self._end:
            self._start = self._end = 0
            return self._view
        if self._end == self.SCRATCH:
            left = self._scratch[self._start : self._end]
            self._scratch[: len(left)] = left
            self._start, self._end = 0, len(left)
        return self._view[self._end :]

    def filled(self, nbytes: int) -> list[Frame]:
        """Take note of ``nbytes`` new bytes in ``space()``; return the frames they complete.

        Raises ProtocolError on a wrong version, kind or size; the decoder is of no use after that. If frames came
        before it, they are returned, and the error is in ``broken``.
        """
        if self._large is not None:
            if not self._large.filled(nbytes):
                return []
            whole, self._large = self._large.frame, None
            self.announced = len(whole.fds)
            return [whole]
        self.announced = 0
        if self._end == 0 and nbytes >= HEADER_BYTES:  # most often it is one whole frame, and a small one
            version, kind, nfds, flags, nbuffers, number, length = HEADER.unpack_from(self._scratch)
            if (
                length + HEADER_BYTES == nbytes
                and not (nbuffers or nfds)
                and length <= self._max_frame
                and version == VERSION
                and kind in _KINDS
            ):
                return [Frame(kind, number, bytes(self._view[HEADER_BYTES:nbytes]), (), (), flags)]
        self._end += nbytes
        frames: list[Frame] = []
        while self._end - self._start >= HEADER_BYTES and self._large is None:
            try:
                frame = self._cut()
            except ProtocolError as error:
                if not frames:
                    raise
                self.broken = error
                break
            if frame is None:
                break
            frames.append(frame)
            self.announced += len(frame.fds)
        return frames

    def _cut(self) -> Frame | None:
        """Cut the next frame out of the scratch buffer, or begin a large one; None when there is not enough yet."""
        start = self._start
        version, kind, nfds, flags, nbuffers, number, nbytes = HEADER.unpack_from(self._scratch, start)
        if version != VERSION:
            raise ProtocolError(f"a frame of version {version} arrived; this side speaks version {VERSION}")
        if kind not in _KINDS or nbuffers > MAX_BUFFERS or nbytes > self._max_frame or nfds > MAX_DESCRIPTORS:
            raise ProtocolError(f"not a frame: kind {kind}, {nbuffers} buffers, {nbytes} bytes, {nfds} descriptors")
        have = self._end - start
        body = start + HEADER_BYTES
        if nbuffers == 0 and have >= HEADER_BYTES + nbytes:
            self._start = body + nbytes
            return Frame(kind, number, bytes(self._view[body : body + nbytes]), (), (0,) * nfds, flags)
        table = 8 * nbuffers
        if have < HEADER_BYTES + table:
            return None
        lengths = struct.unpack_from(f"<{nbuffers}Q", self._scratch, body)
        if nbytes + sum(lengths) > self._max_frame:
            raise ProtocolError(f"a frame of {nbytes + sum(lengths):,} bytes is above {self._max_frame:,}")
        if nbuffers == 0 and HEADER_BYTES + nbytes <= self.SCRATCH // 2:
            return None  # small: wait for the rest in the scratch buffer
        frame = Frame(kind, number, b"", (), (0,) * nfds, flags)
        large = _LargeFrame(frame, (nbytes, *lengths))
        self._start = large.take(self._view, body + table, self._end)
        if large.complete:
            return frame
        self._large = large
        return None


class _LargeFrame:
    """A frame on its way in, each part of which has memory of its own; or all of them together, if they are small."""

    GROW = 1 << 24
    """Parts up to so many bytes are made at once, larger ones double as they arrive: memory is at most twice what has
    arrived, or this. Less: more steps; more: a header alone costs more."""
    TOGETHER = 1 << 18
    """Parts that have so many bytes at most have one memory, which is there until the last is gone. Less: more steps;
    more: a small part that is kept keeps more with it."""

    def __init__(self, frame: Frame, lengths: tuple[int, ...]) -> None:
        self.frame = frame
        self._all = lengths
        nbytes = sum(lengths)
        self._lengths = lengths if len(lengths) == 1 or nbytes > self.TOGETHER else (nbytes,)
        self._parts: list[bytearray] = []
        self._view = memoryview(b"")  # what space() gave away; while it is in use a part cannot grow
        self.complete = False
        self._begin_part()
        self._close_full_parts()

    def space(self) -> memoryview:
        self._view.release()
        self._view = memoryview(self._part)[self._have :]
        return self._view

    def take(self, source: memoryview, start: int, end: int) -> int:
        """Move what is already in ``source[start:end]``; return where it stopped."""
        while start < end and not self.complete:
            space = self.space()
            n = min(len(space), end - start)
            space[:n] = source[start : start + n]
            start += n
            self.filled(n)
        return start

    def filled(self, nbytes: int) -> bool:
        """Count new bytes; True when the frame is whole."""
        self._view.release()
        self._have += nbytes
        self._close_full_parts()
        return self.complete

    def _close_full_parts(self) -> None:
        while not self.complete and self._have == len(self._part):
            if self._doublings:
                self._grow()
                return
            self._parts.append(self._part)
            if len(self._parts) == len(self._lengths):
                self.complete = True
                self._hand_out()
            else:
                self._begin_part()

    def _hand_out(self) -> None:
        """The frame gets its parts."""
        frame, parts = self.frame, self._parts
        if len(parts) == len(self._all):
            frame.payload, frame.buffers = parts[0], tuple(parts[1:])
            return
        view, place, buffers = memoryview(parts[0]), self._all[0], []
        frame.payload = bytes(view[:place])
        for length in self._all[1:]:
            buffers.append(view[place : place + length])
            place += length
        frame.buffers = tuple(buffers)

    def _begin_part(self) -> None:
        """Memory for the next part, or for so much of it that doubling a few times makes it whole."""
        size, self._doublings = self._lengths[len(self._parts)], 0
        while size > self.GROW:
            size, self._doublings = (size + 1) // 2, self._doublings + 1
        self._part = bytearray(size)
        self._have = 0

    def _grow(self) -> None:
        self._doublings -= 1
        self._part *= 2  # in place, so that there are never two of them; what this copies is written over
        if not self._doublings:
            del self._part[self._lengths[len(self._parts)] :]
