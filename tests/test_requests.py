"""The call that runs, as the child has it: items written by hand, answers early, late and twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from relieve_py import CallableTask
from relieve_py.wire import STREAM_WINDOW

FEEDING = str(Path(__file__).parent / "scripts" / "feeding.py")
T = 20
"""Seconds after which something that should happen at once counts as missing."""


@pytest.fixture(scope="module", params=[1, 3], ids=["one at a time", "many at once"])
def task(request: pytest.FixtureRequest) -> Iterator[CallableTask]:
    with CallableTask(FEEDING, concurrency=request.param) as task:
        yield task


@pytest.mark.parametrize("count", [0, 1, 10 * STREAM_WINDOW])
def test_items_are_written_by_hand(task: CallableTask, count: int) -> None:
    assert list(task.stream("push", count)) == list(range(count))


def test_items_are_written_by_a_thread_after_the_function_has_returned(task: CallableTask) -> None:
    assert list(task.stream("push_later", 100)) == list(range(103))

    async def in_a_loop() -> list[int]:
        return [item async for item in task.stream("push_later", 100)]

    assert asyncio.run(in_a_loop()) == list(range(103))


def test_a_callback_answers_a_stream_with_items(task: CallableTask) -> None:
    assert list(task.stream("push_by_callback", 5)) == [0, 1, 2, 3, 4]


def test_whoever_writes_is_told_that_the_reader_has_left(task: CallableTask) -> None:
    refused = task.wait_for("refused")
    with task.stream("push_later", 10**9) as items:
        assert next(items) == 0
    assert "was answered already" in refused.result(T)[0]
    assert task.get("outflows").result(T) == 0


def test_nothing_is_written_after_the_end(task: CallableTask) -> None:
    refused = task.wait_for("refused")
    assert list(task.stream("write_after_the_end")) == [1]
    assert "was answered already" in refused.result(T)[0]


def test_a_call_for_a_value_takes_no_items(task: CallableTask) -> None:
    assert "not with stream()" in task.get("write_or_why_not").result(T)


def test_an_item_that_cannot_be_sent_is_an_error_where_it_is_written(task: CallableTask) -> None:
    assert list(task.stream("write_what_cannot_be_sent")) == [2]


def test_a_stream_of_large_items_leaves_no_trace_in_the_child(task: CallableTask) -> None:
    assert [len(item) for item in list(task.stream("blocks", 4, 3 << 20))[:4]] == [3 << 20] * 4
    assert task.get("outflows").result(T) == 0
