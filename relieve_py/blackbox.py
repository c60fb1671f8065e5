"""The memory that a child shares with its parent, so that something is left of it when it dies; drawn byte by byte.

::

    0        8 bytes      begun: the number of the last call that the child has begun
    8        8 bytes      finished: ... that it has finished
    16       8 bytes      promised: how much of stderr the child has begun to copy into the ring, ever
    24       8 bytes      kept: how much of it is there whole, ever
    32       8 bytes      welcomes: 1 once the child prints its stacks when it gets DUMP_SIGNAL
    40       8 bytes      items begun: how many pieces of its batch the child has begun; all of these but the last are
                          done
    48       8 bytes      items kept from: the first of them whose outcome it has not sent
    56       8 bytes      items done: how many it has finished, where that is more than items begun says
    64       8 bytes      items bytes: how much of OUTCOMES is in use
    72       8 bytes      items of: the number of the batch that the four before are about; what they say holds no more
                          once the child has begun another call
    80       8 bytes      recalled: the number of a batch of which no further piece is to begin; the parent writes this
    PAGE     RING bytes   the ring: byte n of stderr is at n % RING
    ...      OUTCOMES bytes outcomes of items that were not sent yet, one pickle after the other; (n,) says that the one
                          before it is also that of n more, and the last one is that of all others that are done
    ...      STACKS bytes what faulthandler wrote, up to the first zero; it may try to write more, so this is the end

Numbers are in the byte order of the machine. Pages that nobody writes to cost nothing. A child may be killed at any
byte: what it was about to overwrite is promised before, and what it has written is said afterwards. The parent
believes nothing that it reads here beyond its own bounds.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from typing import Any, NamedTuple

RING = 64 * 1024
"""Bytes of stderr that are kept. More: more of a talkative child's last words, and memory for each such child."""
STACKS = 64 * 1024
"""Bytes of stacks that are kept; a hundred frames of one thread are about 10,000."""
LINES = 50
"""Lines of stderr that an error carries."""
OUTCOMES = 256 * 1024
"""Bytes of outcomes that a child may keep before it sends them. More: fewer messages for chunks whose items give much;
less: less memory."""
RING_AT = mmap.PAGESIZE
OUTCOMES_AT = RING_AT + RING
STACKS_AT = OUTCOMES_AT + OUTCOMES
BYTES = STACKS_AT + STACKS

BEGUN, FINISHED, PROMISED, KEPT, WELCOMES = range(5)
ITEMS_BEGUN, ITEMS_FROM, ITEMS_DONE, ITEMS_BYTES, ITEMS_OF, RECALLED = range(5, 11)
"""The numbers, as indices of a memoryview that was cast to "Q"."""
_HALF = RING // 2

# The last but one of the real-time signals, since the first ones are systemd's, and Valgrind has the last.
DUMP_SIGNAL: int | None = signal.SIGRTMAX - 1 if hasattr(signal, "SIGRTMAX") else None
"""The signal that makes a child write the stacks of all its threads; None where there are no real-time signals."""


class Ring:
    """The child's side of the ring. Nothing locks: threads that write at the same time may mix their bytes."""

    def __init__(self, memory: memoryview) -> None:
        self._numbers = memory.cast("Q")
        self._ring = memory[RING_AT : RING_AT + RING]

    def keep(self, data: memoryview) -> None:
        """Copy these bytes into the ring."""
        data = data[-RING:] if len(data) > RING else data
        for begin in range(0, len(data), _HALF):  # so that what is whole never shrinks to nothing
            self._keep(data[begin : begin + _HALF])

    def _keep(self, data: memoryview) -> None:
        kept = self._numbers[KEPT]
        self._numbers[PROMISED] = kept + len(data)
        at = kept % RING
        room = RING - at
        self._ring[at : at + len(data)] = data[:room]
        self._ring[: max(0, len(data) - room)] = data[room:]
        self._numbers[KEPT] = kept + len(data)


class Progress(NamedTuple):
    """How far a child has come with a batch."""

    begun: int
    """How many it has begun."""
    kept_from: int
    """The first whose outcome it had not sent."""
    done: int
    """How many it has finished."""
    records: bytes
    """Outcomes from ``kept_from`` on, as the page has them, of those that were finished; maybe of one more."""


NO_PROGRESS = Progress(0, 0, 0, b"")


class Reader:
    """The parent's side. It holds the memory, and closes it; after that nothing more is read."""

    def __init__(self, fd: int) -> None:
        # Else it would keep a copy of the descriptor, for the sake of resizing.
        untracked: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
        self.memory = mmap.mmap(fd, BYTES, **untracked)
        # The offset of a descriptor is that of its copies: where the child's faulthandler will write is set here.
        self._fd = os.dup(fd) if DUMP_SIGNAL is not None else -1

    def _number(self, index: int) -> int:
        return int.from_bytes(self.memory[8 * index : 8 * index + 8], sys.byteorder)

    @property
    def begun(self) -> int:
        """The number of the last call that the child has begun."""
        return self._number(BEGUN)

    @property
    def welcomes_dump(self) -> bool:
        """True when DUMP_SIGNAL makes the child write its stacks, rather than die."""
        return DUMP_SIGNAL is not None and self._number(WELCOMES) == 1

    def progress(self, number: int) -> Progress:
        """How far the child has come with the batch of that number; nothing, if it has not begun that, or has begun
        another call since. Asked while it runs, the outcomes may be none for once."""
        if not self._number(ITEMS_OF) == self._number(BEGUN) == number:
            return NO_PROGRESS
        first, begun, done = self._number(ITEMS_FROM), self._number(ITEMS_BEGUN), self._number(ITEMS_DONE)
        end = self._number(ITEMS_BYTES)  # after those: of a child that runs there may be more outcomes, never fewer
        records = self.memory[OUTCOMES_AT : OUTCOMES_AT + end] if 0 < end <= OUTCOMES else b""
        if self._number(ITEMS_FROM) != first:  # it sends what it has kept, and has begun to write over it
            records = b""
        return Progress(begun, first, max(done, begun - 1), records)

    def recall(self, number: int) -> None:
        """Have the child begin no further piece of the batch with that number."""
        self.memory[8 * RECALLED : 8 * RECALLED + 8] = number.to_bytes(8, sys.byteorder)

    def stderr_lines(self, most: int = LINES) -> tuple[str, ...]:
        """The last lines that the child's Python code wrote to stderr; the last may be unfinished."""
        promised, kept = self._number(PROMISED), self._number(KEPT)
        begin = max(0, promised - RING, kept - RING)
        if begin >= kept:
            return ()
        ring = self.memory[RING_AT:OUTCOMES_AT]
        first, last = begin % RING, kept % RING
        data = ring[first:last] if first < last else ring[first:] + ring[:last]
        lines = data.decode("utf-8", "replace").split("\n")
        if begin > 0 and len(lines) > 1:
            del lines[0]  # its beginning is overwritten
        if not lines[-1]:
            del lines[-1]
        return tuple(line.rstrip("\r") for line in lines[-most:])

    def stacks(self) -> str | None:
        """What faulthandler wrote when the child crashed or was asked for its stacks; None if it wrote nothing."""
        if not self.memory[STACKS_AT]:  # most leave none, and to look further would cost the pages
            return None
        end = self.memory.find(b"\0", STACKS_AT)
        return self.memory[STACKS_AT : end if end >= 0 else BYTES].decode("utf-8", "replace")

    def forget_stacks(self) -> None:
        """What was written is out of date, and the next is to have its room. Nothing happens where a child cannot be
        asked for more than one."""
        if self._fd >= 0:
            if self.memory[STACKS_AT]:
                end = self.memory.find(b"\0", STACKS_AT)
                end = end if end >= 0 else BYTES
                self.memory[STACKS_AT:end] = bytes(end - STACKS_AT)
            os.lseek(self._fd, STACKS_AT, os.SEEK_SET)  # last, and always: the child may have been writing meanwhile

    def forget(self) -> None:
        """In a process that was just forked: the descriptor is the original's."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Let go of the memory."""
        self.memory.close()
        self.forget()
