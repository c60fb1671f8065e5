"""Percentiles from buckets: never far off, in bounded memory, and merged as if all had been taken by one."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py.sketch import RELATIVE_ERROR, Percentiles, Sketch
from relieve_py.tally import BATCH, Tally

DURATIONS = st.lists(st.floats(min_value=1e-7, max_value=1e7), min_size=1, max_size=200)


def sketch_of(durations: list[float]) -> Sketch:
    made = Sketch()
    made.add(durations)
    return made


def state(sketch: Sketch) -> dict[int, int]:
    return dict(sketch._buckets)


@given(DURATIONS, st.floats(min_value=0, max_value=1))
def test_a_quantile_is_within_the_stated_error(durations: list[float], wanted: float) -> None:
    (found,) = sketch_of(durations).quantiles(wanted)
    exact = sorted(durations)[math.floor(wanted * (len(durations) - 1))]
    assert found == pytest.approx(exact, rel=RELATIVE_ERROR * 1.001)


@given(DURATIONS, DURATIONS)
def test_merged_they_are_as_one_and_taken_back_as_before(one: list[float], other: list[float]) -> None:
    both, alone = sketch_of(one), sketch_of(one)
    both.merge(sketch_of(other))
    assert state(both) == state(sketch_of(one + other))
    assert (both.count, both.longest) == (len(one) + len(other), max(one + other))
    both.take_back(sketch_of(other))
    assert state(both) == state(alone)


def test_memory_is_bounded_whatever_comes() -> None:
    sketch = sketch_of([1e-6 * 1.0001**n for n in range(300_000)])  # from a microsecond to months
    assert sketch.count == 300_000
    assert sketch.buckets < 5_700


def test_nothing_and_zero_and_one() -> None:
    assert Sketch().percentiles() == Percentiles(count=0)
    assert sketch_of([0.0]).percentiles() == Percentiles(count=1, mean=0, p50=0, p90=0, p99=0, longest=0)
    one = sketch_of([0.25]).percentiles()
    assert (one.count, one.mean, one.longest) == (1, 0.25, 0.25)
    assert one.p50 == one.p99 == 0.25, "no percentile is above the longest"
    assert json.loads(json.dumps(one.to_dict()))["count"] == 1


def test_a_tally_counts_in_batches_and_all_when_asked() -> None:
    tally = Tally()
    for number in range(BATCH // 2):
        tally.recent.append((float(number), number + 0.5, number + 2.0))
    assert tally.done == 0
    tally.fold()
    assert (tally.done, tally.recent) == (BATCH // 2, [])
    assert (tally.latency.longest, tally.queue_time.longest) == (2.0, 0.5)
    tally.has_failed()
    tally.is_retried()
    tally.were_cancelled(1)
    copy = Tally()
    copy.merge(tally)
    copy.merge(tally)
    copy.take_back(tally)
    assert copy.numbers() == tally.numbers()
