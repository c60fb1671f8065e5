"""Calls that wait: by priority, first come first served, put back to the front."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from relieve_py.calls import DEFAULTS, Call, Mode
from relieve_py.lanes import SPARE_LANES, Lanes


def make(priority: int) -> Call:
    return Call(Mode.GET, "data", attrs.evolve(DEFAULTS, priority=priority))


def in_turn(calls: list[Call]) -> list[Call]:
    """By priority; sorting is stable."""
    return sorted(calls, key=lambda call: -call.priority)


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "pop", "back", "remove", "least", "clear"]), st.integers(-2, 3)),
    max_size=60,
)


@given(STEPS)
def test_every_history_keeps_the_order(steps: list[tuple[str, int]]) -> None:
    lanes, model, out = Lanes(), list[Call](), list[Call]()
    for step, number in steps:
        if step == "add":
            call = make(number)
            lanes.add(call)
            model = in_turn([*model, call])
        elif step == "pop" and model:
            assert lanes.first() is model[0]
            assert lanes.pop() is model[0]
            out.append(model.pop(0))
        elif step == "back":
            lanes.put_back(out)
            model, out = in_turn([*out, *model]), []
        elif step == "remove" and model:
            call = model.pop(number % len(model))
            assert lanes.remove(call)
            assert not lanes.remove(call)
        elif step == "least" and model:
            lowest = [call for call in model if call.priority == model[-1].priority]
            assert (lanes.least(oldest=True), lanes.least(oldest=False)) == (lowest[0], lowest[-1])
        elif step == "clear":
            assert lanes.clear() == model
            model = []
        assert list(lanes) == model
        assert len(lanes) == len(model)


def test_what_is_put_back_comes_before_its_equals_only() -> None:
    lanes, (low, high, back) = Lanes(), (make(0), make(1), make(0))
    lanes.add(low)
    lanes.add(high)
    lanes.put_back([back])
    assert list(lanes) == [high, back, low]


def test_priorities_that_never_come_again_leave_nothing_behind() -> None:
    lanes = Lanes()
    for number in range(1000):
        lanes.add(make(number))
        lanes.pop()
        lanes.add(cancelled := make(-number))
        assert lanes.remove(cancelled)
        assert len(lanes._lanes) == len(lanes._highest) <= SPARE_LANES + 2
