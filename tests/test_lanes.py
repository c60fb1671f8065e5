"""Calls that wait: by priority, first come first served, put back to the front."""

from __future__ import annotations

import functools
import itertools

import attrs
from hypothesis import given
from hypothesis import strategies as st

from relieve_py.calls import DEFAULTS, Call, Mode
from relieve_py.lanes import SPARE_LANES, Lanes, Queues


def make(priority: int, script: str | None = None) -> Call:
    return Call(Mode.GET, "data", attrs.evolve(DEFAULTS, priority=priority, script=script))


def in_turn(calls: list[Call]) -> list[Call]:
    """By priority; sorting is stable."""
    return sorted(calls, key=lambda call: -call.priority)


def has_not(priority: int, call: Call) -> bool:
    return call.priority != priority


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "pop", "take", "back", "remove", "least", "clear"]), st.integers(-2, 3)),
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
        elif step == "take":
            fits = functools.partial(has_not, number)
            fitting = list(itertools.takewhile(fits, model))[:3]
            lanes.take(3, fits, out)
            assert out[len(out) - len(fitting) :] == fitting
            model = model[len(fitting) :]
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


# -- calls that are addressed ----------------------------------------------------------------------


def test_the_heads_are_the_first_of_each_script_in_the_order_of_their_turns() -> None:
    queues = Queues()
    assert queues.heads() == []
    calls = [make(0, "a"), make(0), make(0, "a"), make(1, "b"), make(0)]
    for call in calls:
        queues.add(call)
    assert queues.heads() == [calls[3], calls[0], calls[1]]
    assert queues.remove(calls[0])
    assert queues.heads() == [calls[3], calls[1], calls[2]]
    queues.put_back([calls[0]])
    assert list(queues.of("a")) == [calls[0], calls[2]]
    assert list(queues.of(None)) == [calls[1], calls[4]]
    assert list(queues.of("none")) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "take", "several", "back", "least", "clear"]),
            st.integers(-1, 1),
            st.sampled_from([None, None, "a", "b"]),
        ),
        max_size=50,
    )
)
def test_queues_are_lanes_that_know_nothing_of_each_other(steps: list[tuple[str, int, str | None]]) -> None:
    queues, models, out = Queues(), dict[str | None, list[Call]](), list[Call]()
    for step, number, script in steps:
        model = models.setdefault(script, [])
        waiting = [call for calls in models.values() for call in calls]
        if step == "add":
            queues.add(call := make(number, script))
            models[script] = in_turn([*model, call])
        elif step == "take" and model:
            out.append(model.pop(number % len(model)))
            assert queues.remove(out[-1])
            assert not queues.remove(out[-1])
        elif step == "several":
            queues.take(script, 2, lambda call: True, out)
            assert out[len(out) - len(model[:2]) :] == model[:2]
            models[script] = model[2:]
        elif step == "back":
            queues.put_back(out)
            for address in {call.script for call in out}:
                models[address] = in_turn([*(call for call in out if call.script == address), *models.get(address, [])])
            out = []
        elif step == "least" and waiting:
            assert queues.least(oldest=True).priority == min(call.priority for call in waiting)
        elif step == "clear":
            assert sorted(call.id for call in queues.clear()) == sorted(call.id for call in waiting)
            models = {}
        assert len(queues) == sum(map(len, models.values())) == len(list(queues))
        assert {call.script: call for call in queues.heads()} == {s: calls[0] for s, calls in models.items() if calls}
