"""When a child that works well is replaced by a fresh one or let go: its calls, age, memory and idleness."""

from __future__ import annotations

from typing import Any

import pytest

from relieve_py.policies import RecyclePolicy
from relieve_py.upkeep import Upkeep


def upkeep(jitter: float = 0.0, **policy: Any) -> Upkeep:
    made = Upkeep(RecyclePolicy(**policy), random=lambda: jitter)
    made.fresh(0.0)
    return made


def test_without_a_policy_a_child_stays_for_ever() -> None:
    child = upkeep()
    for _ in range(1000):
        child.given()
    assert not child.full(1e9)
    assert child.reason(1e9, 10**12) is None
    assert child.idle(1e9) is None
    assert child.next_look(0.0, working=False) is None


def test_a_child_takes_just_so_many_calls() -> None:
    child = upkeep(max_calls=2)
    child.given()
    assert (child.full(1.0), child.reason(1.0, None)) == (False, None)
    child.given()
    assert (child.full(1.0), child.reason(1.0, None)) == (True, "calls")
    child.fresh(2.0)
    assert not child.full(2.0)


def test_a_child_above_its_age_takes_no_more_calls() -> None:
    child = upkeep(max_age=10.0)
    assert child.next_look(0.0, working=False) == 10.0
    assert not child.full(9.9)
    assert (child.full(10.0), child.reason(10.0, None)) == (True, "age")


def test_the_age_is_less_by_up_to_a_tenth_by_chance() -> None:
    assert upkeep(0.5, max_age=10.0).next_look(0.0, working=False) == 9.5


def test_an_old_child_that_works_is_looked_at_when_its_call_ends() -> None:
    assert upkeep(max_age=10.0).next_look(11.0, working=True) is None


@pytest.mark.parametrize(("resident", "reason"), [(None, None), (1000, None), (1001, "rss")])
def test_a_child_above_its_memory_is_replaced(resident: int | None, reason: str | None) -> None:
    assert upkeep(rss=1000).reason(1.0, resident) == reason


def test_idleness_counts_from_the_end_of_the_last_call() -> None:
    child = upkeep(idle=5.0)
    assert child.idle(4.9) is None
    child.worked(4.0)
    assert child.idle(8.9) is None
    assert child.next_look(5.0, working=False) == 9.0
    assert child.next_look(5.0, working=True) == 10.0
    assert child.idle(9.5) == 5.5


@pytest.mark.parametrize(
    ("keywords", "error", "name"),
    [
        ({"max_calls": 0}, ValueError, "max_calls"),
        ({"max_calls": 1.5}, TypeError, "max_calls"),
        ({"max_age": 0}, ValueError, "max_age"),
        ({"max_age": float("inf")}, ValueError, "max_age"),
        ({"idle": "1"}, TypeError, "idle"),
        ({"rss": True}, TypeError, "rss"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(keywords: Any, error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name} must be "):
        RecyclePolicy(**keywords)
