"""Which parts of a segment of shared memory are lent. Pure: numbers only."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
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
        if not self._slots:
            return None
        start = self._first
        for block in self._lent:
            if block.start - start >= nbytes:
                break
            start = -(-block.end // self._page) * self._page
        if start + nbytes > self._size:
            return None
        self._use += 1
        found = Block(start, start + nbytes, self._slots.pop(), self._use)
        bisect.insort(self._lent, found)
        return found

    def give_back(self, block: Block) -> None:
        """It is lent no more."""
        self._lent.remove(block)
        self._slots.append(block.slot)


def gaps(blocks: Iterable[Block], start: int, end: int, page: int) -> list[tuple[int, int]]:
    """The pages between ``start`` and ``end`` on which no block is, as pairs of where each run begins and ends. The
    blocks are in order of their places."""
    found, start = [], -(-start // page) * page
    for block in blocks:
        found.append((start, min(block.start // page * page, end)))
        start = max(start, -(-block.end // page) * page)
    found.append((start, end))
    return [(begin, stop) for begin, stop in found if begin < stop]
