"""Which parts of a segment of shared memory are lent. Pure: numbers only."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SLOTS = 255
"""The most blocks of one segment that may be lent at once. More: small parts need not wait for others to be given back;
less: a shorter look at what was."""


class Block(NamedTuple):
    """A part of a segment: bytes from ``start`` to ``end``. ``slot`` is where it is marked as given back, and ``use``
    that mark, which no other use of the slot has."""

    start: int
    end: int
    slot: int
    use: int


_new = tuple.__new__  # what Block() calls in the end


class Blocks:
    """The blocks of one segment that are lent. Each begins at a page, as low as there is room, so that the memory that
    was used before is used again."""

    def __init__(self, first: int, size: int, page: int) -> None:
        self._first = first  # where the first block may begin
        self._size = size
        self._page = page
        self._lent: list[Block] = []  # in order of their places
        self._slots = list(range(SLOTS, 0, -1))
        self._use = 1  # 0 and 1 mark what is no use of a slot

    def __len__(self) -> int:
        return len(self._lent)

    @property
    def lent(self) -> tuple[Block, ...]:
        """All that are lent."""
        return tuple(self._lent)

    def take(self, nbytes: int) -> Block | None:
        """A new one of so many bytes, at least 1; None when there is no room."""
        slots, lent, start = self._slots, self._lent, self._first
        if not slots:
            return None
        for block in lent:
            if block.start - start >= nbytes:
                break
            start = -(-block.end // self._page) * self._page
        if start + nbytes > self._size:
            return None
        self._use = use = self._use + 1
        found = Block(start, start + nbytes, slots.pop(), use)
        bisect.insort(lent, found)
        return found

    def take_marked(self, nbytes: int, marks: Sequence[int]) -> Block | None:
        """The same, once those are given back whose slot has their use for a mark."""
        lent = self._lent
        if len(lent) == 1:  # most often it is the last one that is taken again
            start, _, slot, use = lent[0]
            if marks[slot] == use and start == self._first and start + nbytes <= self._size:
                self._use = use = self._use + 1
                lent[0] = found = _new(Block, (start, start + nbytes, slot, use))
                return found
        self.give_back_marked(marks)
        return self.take(nbytes)

    def give_back(self, block: Block) -> None:
        """It is lent no more."""
        self._lent.remove(block)
        self._slots.append(block.slot)

    def give_back_marked(self, marks: Sequence[int]) -> None:
        """Those whose slot has their use for a mark."""
        lent = self._lent
        for place in range(len(lent) - 1, -1, -1):
            _, _, slot, use = lent[place]
            if marks[slot] == use:
                del lent[place]
                self._slots.append(slot)


def gaps(blocks: Iterable[Block], start: int, end: int, page: int) -> list[tuple[int, int]]:
    """The pages between ``start`` and ``end`` on which no block is, as pairs of where each run begins and ends. The
    blocks are in order of their places."""
    found, start = [], -(-start // page) * page
    for block in blocks:
        found.append((start, min(block.start // page * page, end)))
        start = max(start, -(-block.end // page) * page)
    found.append((start, end))
    return [(begin, stop) for begin, stop in found if begin < stop]
