"""Frames whose large parts lie in a segment: what is lent, how a frame says so, and who makes the segments.

The parent makes both segments of a channel, when the first large parts come along, which travel in the frame itself.
A frame that is lent has LENT among its flags, and all of its buffers are in one block, in order, and its payload before
them if that is large. What is left of its payload ends in the lengths of those parts (u64 each), and a tail::

     +-----------+-------------+------------+-------------+------------+
     | use (u64) | start (u64) | slot (u32) | parts (u32) | what (u32) |
     +-----------+-------------+------------+-------------+------------+

``what`` they are: BUFFERS; PAYLOAD, and then the buffers; or OBJECTS, which are buffers that will be bytes objects. Of
these, unless they are many bytes, whoever receives the frame makes copies, and gives the block back at once.

Whatever goes wrong here, frames go as they are. A frame that names what was not lent is a ProtocolError.
"""

from __future__ import annotations

import os
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence

from relieve_py import segments
from relieve_py.blocks import Block
from relieve_py.errors import ProtocolError
from relieve_py.interruptions import raised_by_handler
from relieve_py.reducing import OUT_OF_BAND
from relieve_py.segments import PAGE, Borrower, Copying, Lender, Share, padded
from relieve_py.serializers import Descriptors
from relieve_py.splicing import ONE_SPLICED, all_spliced
from relieve_py.wire import (
    LENT,
    MAX_BUFFERS,
    WISH,
    Bytes,
    Frame,
    Kind,
    check_size,
    encode_small,
    size_of,
)

LEND = 1 << 16
"""Frames with so many bytes are lent. Less: smaller frames take the way with more steps; more: larger ones are copied
through the socket, which needs a read and a write for each piece that fits into it. See benchmarks/segments.py."""
LEND_ONE = 1 << 15
"""So are frames that have one buffer with so many bytes, and little else, for which there are fewer steps."""
COOL = 5.0
"""Seconds after which memory is given back that was not lent meanwhile. Less: who uses it again has to wait for fresh
memory; more: it is kept for longer."""

WRITE, READ, TRIM = 1, 2, 3
"""The number of a SEGMENT frame: a segment for the child to write into, one for it to read from, or the place (u64)
from which on the memory that it does not lend is to be given back."""

BUFFERS, PAYLOAD, OBJECTS = 0, 1, 2
COPY = 1 << 20
"""Blocks that will be bytes objects and have so many bytes at most are copied by who receives them, who may be the I/O
thread. Less: keeping account of views costs as much as the copies; more: that thread has to do with one for longer."""
_SEGMENT = int(Kind.SEGMENT)  # to look up a member of an enum takes a while
_TAIL = struct.Struct("<QQIII")
_ONE_AND_TAIL = struct.Struct("<QQQIII")


class Lending(ABC):
    """One end of a channel, as far as its segments go. One thread may send while another receives."""

    def __init__(self) -> None:
        self.lender: Lender | None = None
        self.borrower: Borrower | None = None

    @abstractmethod
    def came(self, frame: Frame) -> bool:
        """Look at a frame with LENT or WISH, and make it whole; False when it was meant for this. Raises
        ProtocolError."""

    def lend_one(self, frame: Frame) -> bytes | None:
        """A large frame as one chunk that says where its large part is; None when it has not just one, or that cannot
        be lent. As most are that are lent, in few steps."""
        part, buffers, lender, rest, what = frame.payload, frame.buffers, self.lender, b"", PAYLOAD
        if lender is None or type(part) is not bytes or frame.fds:
            return None
        if buffers:
            if len(buffers) > 1 or len(part) >= OUT_OF_BAND:
                return None
            rest, part = part, buffers[0]
            what = OBJECTS if rest[: len(ONE_SPLICED)] == ONE_SPLICED else BUFFERS
        nbytes = size_of(part)
        if nbytes > segments.STEP or (block := lender.lend((part,))) is None:
            return None
        start, end, slot, use = block
        self._lent(end)
        rest += _ONE_AND_TAIL.pack(nbytes, use, start, slot, 1, what)
        return encode_small(frame.kind, frame.number, rest, frame.flags | LENT)

    @abstractmethod
    def _lent(self, end: int) -> None:
        """A block was, which ends there."""

    def close(self) -> None:
        """Nothing more is sent or received. What has come can be seen until its last view is gone."""
        borrower, self.borrower, self.lender = self.borrower, None, None
        if borrower is not None:
            borrower.close()

    def _open(self, frame: Frame) -> int:
        """Put the parts that are lent back into the frame; where their block ends. Raises ProtocolError."""
        payload, borrower = frame.payload, self.borrower
        rest: int = len(payload) - _TAIL.size
        if borrower is None or rest < 0 or frame.buffers:
            raise ProtocolError("a frame names what was not lent")
        use, start, slot, count, what = _TAIL.unpack_from(payload, rest)
        rest -= 8 * count
        if rest < 0 or not 0 < count <= MAX_BUFFERS + (what == PAYLOAD) or what > OBJECTS or (what == PAYLOAD and rest):
            raise ProtocolError(f"a frame names {count} parts in {len(payload)} bytes")
        lengths = struct.unpack_from("<Q" if count == 1 else f"<{count}Q", payload, rest)
        end: int = start + sum(map(padded, lengths))
        frame.flags &= ~LENT
        block = Block(start, end, slot, use)
        if what == OBJECTS and end - start <= COPY:
            frame.payload, frame.buffers = payload[:rest], borrower.copy(block, lengths)
            return end
        parts = _cut(borrower.borrow(block), lengths)
        frame.payload = parts.pop(0) if what == PAYLOAD else payload[:rest]
        frame.buffers = parts
        return end


def _cut(view: memoryview, lengths: Sequence[int]) -> list[Bytes]:
    """The parts of a block."""
    place, parts = 0, list[Bytes]()
    for length in lengths:
        parts.append(view[place : place + length])
        place += padded(length)
    return parts


def _large_parts(frame: Frame) -> tuple[Sequence[Bytes], int]:
    """Those of its parts that are lent, and what they are. Raises EncodeError when the frame may not travel: its block
    would stay lent, since nobody could give it back."""
    payload, buffers = frame.payload, frame.buffers
    check_size(size_of(payload) + sum(map(size_of, buffers)), len(buffers), len(frame.fds))
    if size_of(payload) >= OUT_OF_BAND:
        return (payload, *buffers), PAYLOAD
    return buffers, OBJECTS if all_spliced(payload, buffers) else BUFFERS


def _without(frame: Frame, parts: Sequence[Bytes], what: int, block: Block) -> Frame:
    """What is left of the frame when these parts of it are in the block."""
    lengths = struct.pack(f"<{len(parts)}Q", *map(size_of, parts))
    tail = _TAIL.pack(block.use, block.start, block.slot, len(parts), what)
    rest = b"".join((b"" if what == PAYLOAD else frame.payload, lengths, tail))
    return Frame(frame.kind, frame.number, rest, (), frame.fds, frame.flags | LENT, frame.owner)


def is_large(frame: Frame) -> bool:
    """True when it should be lent."""
    buffers = frame.buffers
    if len(buffers) == 1 and size_of(buffers[0]) >= LEND_ONE:  # most often
        return True
    nbytes = size_of(frame.payload)
    return (nbytes if nbytes >= OUT_OF_BAND else 0) + sum(map(size_of, buffers)) >= LEND


class Underway:
    """A frame whose large parts are being copied, a step at a time, and the frames that are to be sent behind it."""

    def __init__(self, copying: Copying, lent: Frame, frame: Frame) -> None:
        self.behind: deque[Frame] = deque()
        self._copying = copying
        self._lent = lent
        self._frame = frame

    @property
    def left(self) -> int:
        """Bytes that are not copied yet."""
        return self._copying.left

    def step(self) -> Frame | None:
        """Copy some more; once that is done, or cannot be, the frame to send."""
        try:
            return self._lent if self._copying.step() else None
        except OSError as error:
            if raised_by_handler(error):
                raise
            return self._frame


class LendingParent(Lending):
    """The parent's end, which makes the segments, and has memory given back that was not used for a while.

    ``owed`` are frames that have to be sent, in the order that they are there. ``may``: it may make any.
    """

    def __init__(self, may: bool = True) -> None:
        super().__init__()
        self._may = may
        self.owed: deque[Frame] = deque()
        self._shares: list[Share] = []
        self._wake: Callable[[], object] | None = None  # has tend() called soon
        self._awake = self._cooling = False  # that was called; it will be called late
        self._down = self._up = PAGE  # where the highest block ended that was lent since then
        self._above = PAGE  # where the memory of the child's lender may end

    def attend(self, wake: Callable[[], object]) -> None:
        """``wake`` is called, by whoever sends or receives, when ``tend`` has to be called soon."""
        self._wake, self._awake, self._cooling = wake, False, False
        if self.lender is not None or self.borrower is not None:
            self._call()

    def begin(self, frame: Frame) -> Frame | Underway:
        """What is to be sent for a frame with large parts: that these are lent, now or soon; or the frame as it is."""
        if self.lender is None:
            if self._may:
                self._make_lender()
            return frame
        parts, what = _large_parts(frame)
        copying = self.lender.begin(parts)
        if copying is None:
            return frame
        self._lent(copying.block.end)
        lent = _without(frame, parts, what, copying.block)
        try:
            return lent if copying.step() else Underway(copying, lent, frame)
        except OSError as error:
            if raised_by_handler(error):
                raise
            return frame

    def _lent(self, end: int) -> None:
        if end > self._down:
            self._down = end
        if not self._cooling:
            self._call()

    def came(self, frame: Frame) -> bool:
        if frame.kind == _SEGMENT:
            raise ProtocolError("a child makes no segments")
        if frame.flags & WISH:
            frame.flags &= ~WISH
            if self.borrower is None and self._may:
                self._make_borrower()
        if frame.flags & LENT:
            end = self._open(frame)
            if end > self._up:
                self._up = end
                self._above = max(self._above, end)
            if not self._cooling:
                self._call()
        return True

    def tend(self, late: bool) -> bool:
        """There are frames that are owed, or segments in use; ``late``: COOL seconds ago there were. True when this has
        to be called late once more."""
        self._awake = False
        if not late:
            late, self._cooling = not self._cooling, True
            return late
        self._cooling = False
        (down, self._down), (up, self._up) = (self._down, PAGE), (self._up, PAGE)
        if self.lender is not None:
            self.lender.trim(down)
        if up < self._above:
            self._above = up
            self.owed.append(Frame(Kind.SEGMENT, TRIM, up.to_bytes(8, "little"), flags=LENT))
        self._cooling = down > PAGE or up > PAGE
        return self._cooling

    @property
    def kept(self) -> int:
        """Bytes of memory that count as the child's, and are there only to be used again."""
        return (self.lender.kept if self.lender is not None else 0) + self._above - PAGE

    def close(self) -> None:
        super().close()
        self._wake = None
        self.owed.clear()
        self._shares.clear()

    def _call(self) -> None:
        if self._wake is not None and not self._awake:
            self._awake = True
            self._wake()

    def _make_lender(self) -> None:
        try:
            share = Share()
            lender = Lender(share.fd)
        except OSError as error:
            if raised_by_handler(error):
                raise
            return
        self._shares.append(share)
        self.owed.append(Frame(Kind.SEGMENT, READ, fds=(share.fd,), flags=LENT, owner=lender))
        self.lender = lender

    def _make_borrower(self) -> None:
        try:
            share = Share()
            owner = Descriptors([share.fd])
            borrower = Borrower(share.fd)
        except OSError as error:
            if raised_by_handler(error):
                raise
            return
        self._shares.append(share)
        self.borrower = borrower
        self.owed.append(Frame(Kind.SEGMENT, WRITE, fds=owner.fds, flags=LENT, owner=owner))
        self._call()


class LendingChild(Lending):
    """The child's end, which takes what it is given, and says when it would use more."""

    def lend(self, frame: Frame) -> Frame:
        """What is to be sent for a frame with large parts: that these are lent, or the frame as it is."""
        if self.lender is None:
            frame.flags |= WISH
            return frame
        parts, what = _large_parts(frame)
        block = self.lender.lend(parts)
        return frame if block is None else _without(frame, parts, what, block)

    def came(self, frame: Frame) -> bool:
        if frame.kind != _SEGMENT:
            self._open(frame)
            return True
        if frame.number == TRIM and self.lender is not None:
            self.lender.trim(int.from_bytes(frame.payload, "little"))
        elif frame.number in (WRITE, READ) and isinstance(frame.owner, Descriptors):
            self._take(frame.number, frame.owner)
        return False

    def _lent(self, end: int) -> None:
        """The parent sees that."""

    def _take(self, number: int, owner: Descriptors) -> None:
        try:
            if number == READ:
                self.borrower = Borrower(owner.fds[0])
            else:
                self.lender = Lender(os.dup(owner.fds[0]))
        except OSError:  # the descriptor was lost on the way, or there is no memory: all goes on without
            return
