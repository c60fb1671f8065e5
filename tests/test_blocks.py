"""Which parts of a segment are lent: never one twice, as low as there is room, and what lies between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relieve_py.blocks import SLOTS, Block, Blocks, gaps

PAGE = 16
SIZE = 40 * PAGE

steps = st.lists(st.one_of(st.integers(1, 12 * PAGE), st.floats(0, 1, exclude_max=True)), max_size=60)
"""Take so many bytes, or give back the block that is so far along."""


def after(history: list[int | float]) -> tuple[Blocks, list[Block]]:
    """What a history leads to; each step of it is looked at."""
    blocks, lent, uses = Blocks(PAGE, SIZE, PAGE), list[Block](), set[int]()
    for step in history:
        if isinstance(step, float):
            if lent:
                blocks.give_back(lent.pop(int(step * len(lent))))
            continue
        block = blocks.take(step)
        if block is None:
            continue
        assert block.end - block.start == step
        assert block.start % PAGE == 0
        assert block.start >= PAGE
        assert block.end <= SIZE
        assert all(other.end <= block.start or block.end <= other.start for other in lent)
        assert block.slot not in {other.slot for other in lent}
        assert block.use not in uses
        uses.add(block.use)
        lent.append(block)
    return blocks, lent


@given(steps)
def test_no_two_blocks_share_memory_or_a_slot_and_no_use_comes_twice(history: list[int | float]) -> None:
    blocks, lent = after(history)
    assert sorted(lent) == list(blocks.lent)
    assert len(blocks) == len(lent)


@given(steps, st.integers(1, 12 * PAGE))
def test_a_block_is_as_low_as_there_is_room(history: list[int | float], nbytes: int) -> None:
    blocks, lent = after(history)
    fits = [
        start
        for start in range(PAGE, SIZE - nbytes + 1, PAGE)
        if all(-(-other.end // PAGE) * PAGE <= start or start + nbytes <= other.start for other in lent)
    ]
    block = blocks.take(nbytes)
    assert (block.start if block is not None else None) == (min(fits) if fits else None)


@given(steps)
def test_what_is_marked_is_taken_again_as_if_it_had_been_given_back(history: list[int | float]) -> None:
    blocks, same, marks, lent = Blocks(PAGE, SIZE, PAGE), Blocks(PAGE, SIZE, PAGE), [0] * (SLOTS + 1), list[Block]()
    for step in history:
        if isinstance(step, float):
            if lent:
                block = lent.pop(int(step * len(lent)))
                marks[block.slot] = block.use
                same.give_back(next(other for other in same.lent if other.start == block.start))
            continue
        block, other = blocks.take_marked(step, marks), same.take(step)
        assert (block and block[:2]) == (other and other[:2])
        assert block is None or (type(block) is Block and marks[block.slot] != block.use)
        lent += [block] if block is not None else []
        assert sorted(lent) == list(blocks.lent)


@given(steps, st.integers(0, SIZE // PAGE), st.integers(0, SIZE // PAGE))
def test_gaps_are_the_pages_on_which_no_block_is(history: list[int | float], first: int, last: int) -> None:
    blocks, lent = after(history)
    taken = {page for block in lent for page in range(block.start // PAGE, -(-block.end // PAGE))}
    found = gaps(blocks.lent, first * PAGE, last * PAGE, PAGE)
    pages = [page for start, end in found for page in range(start // PAGE, end // PAGE)]
    assert pages == [page for page in range(first, last) if page not in taken]
    assert all(start < end for start, end in found)


def test_there_are_so_many_slots_and_one_that_is_given_back_is_used_again() -> None:
    blocks = Blocks(PAGE, PAGE * (SLOTS + 10), PAGE)
    lent = [blocks.take(1) for _ in range(SLOTS)]
    assert None not in lent
    assert blocks.take(1) is None
    assert lent[7] is not None
    blocks.give_back(lent[7])
    again = blocks.take(1)
    assert again is not None
    assert (again.slot, again.start) == (lent[7].slot, lent[7].start)
