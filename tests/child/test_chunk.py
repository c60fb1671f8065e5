"""What a child keeps of a chunk while it runs, whenever it is killed."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relieve_py.birth import _page_descriptor
from relieve_py.blackbox import BEGUN, OUTCOMES_AT, RECALLED, Progress, Reader
from relieve_py.child import chunk
from relieve_py.child.calling import Caller
from relieve_py.outcomes import Sealed, head_of, outcomes_in, outcomes_of
from relieve_py.serializers import Payload, PickleSerializer
from relieve_py.wire import Kind

NUMBER = 9
ROOM = 64
"""Bytes for outcomes."""
PICKLE = PickleSerializer()


class Killed(BaseException):
    """The child is gone."""


class Life:
    """It ends at the n-th store, and whatever is tried after that is not done."""

    def __init__(self, stores: float) -> None:
        self._left = stores

    def store(self) -> None:
        self._left -= 1
        self.go_on()

    def go_on(self) -> None:
        if self._left <= 0:
            raise Killed


class Fragile:
    """Memory whose writer may be killed."""

    def __init__(self, memory: memoryview, life: Life) -> None:
        self._memory = memory
        self._life = life

    def __getitem__(self, place: Any) -> Any:
        return self._memory[place]

    def __setitem__(self, place: Any, value: Any) -> None:
        self._life.store()
        self._memory[place] = value


class Both:
    """A child that runs one chunk until a store kills it, and what its parent knows then."""

    def __init__(self, stores: float = math.inf) -> None:
        fd = _page_descriptor()
        self._reader = Reader(fd)
        os.close(fd)
        self.page = memoryview(self._reader.memory).cast("Q")
        self._outcomes = memoryview(self._reader.memory)[OUTCOMES_AT : OUTCOMES_AT + ROOM]
        self.page[BEGUN] = NUMBER
        self._life = Life(stores)
        self._child: Any = SimpleNamespace(
            page=Fragile(self.page, self._life),
            outcomes=Fragile(self._outcomes, self._life),
            serializer=PICKLE,
            requests={},
            answer=self._answer,
        )
        self.sent: list[Any] = []
        self.begun: list[int] = []
        """The items whose code has run, to its end or not."""

    def __enter__(self) -> Both:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.page.release()
        self._outcomes.release()
        self._reader.close()

    def _answer(self, kind: Kind, number: int, payload: Payload) -> None:
        self._life.go_on()
        assert (kind, number) == (Kind.ITEM, NUMBER)
        assert head_of(payload).first == len(self.sent)
        self.sent += outcomes_of(payload)

    def run(self, values: list[Any]) -> list[Any] | None:
        """Have an item give each of these, or raise it; all that was sent, or None if it was killed."""

        def function(index: int) -> Any:
            self.begun.append(index)
            if isinstance(values[index], Exception):
                raise values[index]
            return values[index]

        try:
            running = chunk.Chunk(Caller(self._child), NUMBER, 1, "f", 0.0)
            _, payload = running.run(function, list(range(len(values))), False)
        except Killed:
            return None
        assert payload is not None
        return [*self.sent, *outcomes_of(payload)]

    def known(self) -> tuple[list[Any], Progress]:
        """What a parent knows that has read all that was sent."""
        progress = self._reader.progress(NUMBER)
        skip, most = len(self.sent) - progress.kept_from, progress.done - progress.kept_from
        return [*self.sent, *(outcomes_in(progress.records, most)[skip:] if 0 <= skip < most else [])], progress


def plain(outcome: Any) -> Any:
    """Something to compare, of what an item gave or raised and of its outcome."""
    if type(outcome) is Sealed:
        return ("error",) if outcome.kind == Kind.ERROR else PICKLE.decode(Payload(outcome.data))
    if isinstance(outcome, Exception):
        return ("error",)
    if type(outcome) is Payload:
        outcome = PICKLE.decode(outcome)
    return bytes(outcome) if isinstance(outcome, (memoryview, pickle.PickleBuffer)) else outcome


LONG, TOO_LONG, LARGE = "x" * (ROOM // 2), "y" * ROOM, pickle.PickleBuffer(b"z" * 40_000)


@pytest.fixture(autouse=True, scope="module")
def little_room() -> Iterator[None]:
    """So that it is used up soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk, "OUTCOMES", ROOM)
        yield


values = st.lists(
    st.sampled_from([None, None, None, True, "a", LONG, TOO_LONG, LARGE, [1], ValueError("none")])
    | st.integers(-1 << 40, 1 << 40)
    | st.sampled_from([-chunk.SMALL - 1, -chunk.SMALL, chunk.SMALL - 1, chunk.SMALL]),
    max_size=12,
)


@given(values)
@example([None, None, LARGE, None, None, [1], None])
def test_all_that_items_gave_is_sent(given: list[Any]) -> None:
    with Both() as both:
        got = both.run(given)
    assert got is not None
    assert list(map(plain, got)) == list(map(plain, given))


@given(values)
@example([None, None, LARGE, None, None, [1], None])
def test_wherever_a_child_is_killed_at_most_the_item_that_ran_is_lost(given: list[Any]) -> None:
    expected = list(map(plain, given))
    for stores in range(6, 1000):  # the first ones are of what begins a chunk
        with Both(stores) as both:
            if both.run(given) is not None:
                return
            found, progress = both.known()
        assert list(map(plain, found)) == expected[: len(found)]
        assert len(found) <= len(both.begun) <= max(progress.begun, len(found)) <= len(found) + 1
    pytest.fail("it never came to its end")


def test_items_that_give_the_same_leave_one_record() -> None:
    with Both() as both:
        both.run([None] * 1000)
        found, progress = both.known()
    assert found == [None] * 1000
    assert progress.records == pickle.dumps(None, 5)
    assert both.sent == []


def test_what_is_recalled_was_not_begun_and_what_was_begun_is_kept() -> None:
    with Both() as both:

        class Recalling(list[Any]):
            def __getitem__(self, index: Any) -> Any:
                if index == 2:
                    both.page[RECALLED] = NUMBER
                return super().__getitem__(index)

        assert both.run(Recalling([None] * 5)) == [None] * 3
        found, progress = both.known()
    assert both.begun == [0, 1, 2]
    assert (found, progress.begun, progress.done) == ([None] * 3, 3, 3)
