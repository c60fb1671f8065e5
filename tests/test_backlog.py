"""The queue of a CloudWorker: what waits, what goes when it is full, and its numbers."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py.backlog import WHEN_FULL, Backlog
from relieve_py.calls import Call, CallOptions, Mode


def make(count: int) -> list[Call]:
    return [Call(Mode.GET, "data", CallOptions()) for _ in range(count)]


@pytest.mark.parametrize(
    ("max_pending", "when_full", "error", "names"),
    [
        (0, "wait", ValueError, "max_pending"),
        (-3, "wait", ValueError, "max_pending"),
        (1.5, "wait", TypeError, "max_pending"),
        (True, "wait", TypeError, "max_pending"),
        ("10", "wait", TypeError, "max_pending"),
        (10, "block", ValueError, "when_full"),
        (10, None, ValueError, "when_full"),
    ],
)
def test_wrong_options_are_refused_by_name(
    max_pending: Any, when_full: Any, error: type[Exception], names: str
) -> None:
    with pytest.raises(error, match=f"^{names} must be "):
        Backlog(max_pending, when_full)


def test_without_a_limit_it_is_never_full() -> None:
    backlog = Backlog(None, "raise")
    for call in make(1000):
        assert backlog.add(call) is None
    assert not backlog.full


def test_it_is_full_at_its_limit() -> None:
    backlog = Backlog(2, "wait")
    first, second = make(2)
    backlog.add(first)
    assert not backlog.full
    backlog.add(second)
    assert backlog.full
    assert backlog.drop(first)
    assert not backlog.full


def test_the_newest_goes_when_told_so() -> None:
    backlog = Backlog(2, "drop_newest")
    first, second, third = make(3)
    assert [backlog.add(call) for call in (first, second, third)] == [None, None, third]
    assert list(backlog.waiting) == [first, second]
    assert backlog.dropped == 1


def test_the_oldest_goes_when_told_so() -> None:
    backlog = Backlog(2, "drop_oldest")
    first, second, third = make(3)
    assert [backlog.add(call) for call in (first, second, third)] == [None, None, first]
    assert list(backlog.waiting) == [second, third]
    assert backlog.dropped == 1


def test_calls_that_were_on_a_child_come_back_before_all_others_and_are_never_dropped() -> None:
    for when_full in WHEN_FULL:
        backlog = Backlog(1, when_full)
        (new,), old = make(1), make(3)
        old[1].causes += (ValueError(),)
        backlog.add(new)
        backlog.put_back(old)
        assert list(backlog.waiting) == [*old, new]
        assert (backlog.retried, backlog.dropped) == (1, 0)


def test_a_call_is_dropped_once() -> None:
    backlog = Backlog(None, "wait")
    (call,) = make(1)
    backlog.add(call)
    assert backlog.drop(call)
    assert not backlog.drop(call)


def test_all_that_waits_can_be_taken() -> None:
    backlog, calls = Backlog(None, "wait"), make(3)
    for call in calls:
        backlog.add(call)
    assert backlog.take_all() == calls
    assert backlog.take_all() == []


@pytest.mark.parametrize("where", ["waiting", "out"])
def test_it_is_drained_when_no_call_is_open_anywhere(where: str) -> None:
    backlog = Backlog(None, "wait")
    assert backlog.drained
    if where == "waiting":
        backlog.add(make(1)[0])
    else:
        setattr(backlog, where, 1)
    assert not backlog.drained


def test_the_numbers_are_those_of_the_histories() -> None:
    backlog = Backlog(2, "drop_newest")
    for call in make(5):
        backlog.add(call)
    backlog.out = 3
    counted = {"submitted": 5, "retried": 0, "dropped": 3, "most_queued": 2}
    assert backlog.snapshot() == {"queued": 2, "running": 3, **counted}


@given(
    st.sampled_from(["drop_oldest", "drop_newest"]),
    st.integers(1, 4),
    st.lists(st.sampled_from(["add", "add event", "take", "back", "drop", "all"]), max_size=40),
)
def test_no_call_is_lost_or_doubled(when_full: str, limit: int, steps: list[str]) -> None:
    """Each is waiting, taken, given back to the caller, or dropped by name: exactly one of them."""
    backlog = Backlog(limit, when_full)
    made: list[Call] = []
    gone: list[Call] = []
    taken: deque[Call] = deque()
    for step in steps:
        if step in ("add", "add event"):
            made.append(Call(Mode.GET if step == "add" else Mode.EVENT, "data", CallOptions()))
            victim = backlog.add(made[-1])
            gone += [] if victim is None else [victim]
        elif step == "take" and backlog.waiting:
            taken.append(backlog.waiting.heads()[0])
            assert backlog.drop(taken[-1])
        elif step == "back" and taken:
            backlog.put_back([taken.pop()])
        elif step == "drop" and backlog.waiting:
            gone.append(list(backlog.waiting)[-1])
            assert backlog.drop(gone[-1])
        elif step == "all":
            gone += backlog.take_all()
    places = [*backlog.waiting, *taken, *gone]
    assert sorted(call.id for call in places) == sorted(call.id for call in made)
    assert backlog.unread.events == sum(call.mode is Mode.EVENT for call in backlog.waiting)
    assert backlog.submitted == len(made)
