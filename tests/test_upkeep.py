"""When a child that works well is replaced by a fresh one or let go: its calls, age, memory and idleness."""

from __future__ import annotations

from typing import Any

import pytest

from relieve_py.policies import UNCHANGED, RecyclePolicy
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


# -- what the child asks for -----------------------------------------------------------------------


def asking(busy_timeout: float | None = 5.0) -> Upkeep:
    made = Upkeep(UNCHANGED, lambda: 0.0, busy_timeout)
    made.fresh(0.0)
    return made


def test_a_child_that_is_busy_for_too_long_is_replaced_from_its_first_word_on() -> None:
    child = asking()
    child.asked("busy", 1.0)
    child.asked("busy", 4.0)
    assert child.busy
    assert child.next_look(4.0, working=False) == 6.0
    assert (child.reason(5.9, None), child.reason(6.0, None)) == (None, "busy")
    assert child.next_look(6.0, working=True) is None, "the end of its call is looked at"


def test_a_child_that_is_ready_again_is_not_replaced() -> None:
    child = asking()
    child.asked("busy", 1.0)
    child.asked("ready", 2.0)
    assert not child.busy
    assert (child.reason(9.0, None), child.next_look(2.0, working=False)) == (None, None)
    child.asked("busy", 9.0)
    assert child.next_look(9.0, working=False) == 14.0


def test_without_a_limit_a_child_may_be_busy_for_ever() -> None:
    child = asking(None)
    child.asked("busy", 1.0)
    assert child.busy
    assert (child.reason(1e9, None), child.next_look(1.0, working=False)) == (None, None)


def test_a_child_that_wants_to_go_takes_no_more_calls_and_the_end_outranks_another() -> None:
    child = asking()
    child.asked("drain", 1.0)
    assert (child.full(1.0), child.reason(1.0, None)) == (True, "drain")
    child.asked("end", 1.0)
    child.asked("drain", 1.0)
    assert child.reason(1.0, None) == "end"


def test_what_a_child_asked_for_dies_with_it() -> None:
    child = asking()
    for what in ("busy", "drain"):
        child.asked(what, 1.0)
    child.gone()
    assert (child.on, child.busy, child.full(9.0), child.reason(9.0, None)) == (False, False, False, None)


def test_a_child_for_which_calls_wait_is_not_looked_at_for_idleness_at_once_and_again() -> None:
    child = upkeep(idle=5.0)
    assert child.next_look(20.0, working=False) == 5.0
    assert child.next_look(20.0, working=False, wanted=True) == 25.0
