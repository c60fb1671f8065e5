"""``map`` with fake calls: bounded and lazy, in order or not, errors at their place, and nothing left in flight."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py.calls import DEFAULTS
from relieve_py.chunks import Chunk, Part
from relieve_py.errors import CallCancelled, TaskDied
from relieve_py.mapping import AHEAD, Map
from relieve_py.outcomes import Several
from relieve_py.replies import Reply
from relieve_py.serializers import PickleSerializer
from relieve_py.strands import Strand
from relieve_py.supervisor import shared
from relieve_py.telling import error_payload
from relieve_py.wire import Kind


class Calls:
    """Submits items as calls that settle when the test says so."""

    def __init__(self) -> None:
        self.strand = Strand()
        self.open: dict[Any, Reply] = {}
        self.submitted: list[Any] = []

    def submit(self, item: Any) -> Reply:
        reply = Reply(None, self.strand)
        self.open[item] = reply
        self.submitted.append(item)
        return reply

    def done(self, *items: Any) -> None:
        for item in items:
            self.open.pop(item).settle(item * 10)

    def fail(self, item: Any, error: BaseException) -> None:
        self.open.pop(item).fail(error)

    def map(self, items: Any, width: int = 2, unordered: bool = False, return_exceptions: bool = False) -> Map:
        return Map(self.submit, items, lambda: width, unordered, return_exceptions)


class AtOnce(Calls):
    """Each call is settled when it is submitted; some raise."""

    def __init__(self, errors: dict[Any, BaseException] | None = None) -> None:
        super().__init__()
        self.errors = errors or {}

    def submit(self, item: Any) -> Reply:
        reply = super().submit(item)
        if item in self.errors:
            self.fail(item, self.errors[item])
        else:
            self.done(item)
        return reply


def settle_io() -> None:
    """Wait until the I/O thread has done what was posted to it."""
    done = threading.Event()
    shared().post(done.set)
    assert done.wait(10)


# -- laziness and memory ---------------------------------------------------------------------------


def test_nothing_is_taken_before_the_first_result_is_asked_for() -> None:
    calls, taken = Calls(), []
    calls.map(taken.append(n) for n in range(5))
    assert taken == []


@pytest.mark.parametrize("width", [1, 2, 7])
@pytest.mark.parametrize("unordered", [False, True])
def test_no_more_is_in_flight_than_a_few_for_each_that_can_run(width: int, unordered: bool) -> None:
    calls = AtOnce()
    most = 0
    mapped = calls.map(itertools.count(), width, unordered)
    for taken, _ in enumerate(itertools.islice(mapped, 50), 1):
        most = max(most, len(calls.submitted) - taken)
    assert most < width * AHEAD
    mapped.close()


def test_an_infinite_source_is_read_as_results_are_taken() -> None:
    calls = AtOnce()
    mapped = calls.map(itertools.count(), width=3)
    assert list(itertools.islice(mapped, 100)) == [n * 10 for n in range(100)]
    assert len(calls.submitted) <= 100 + 3 * AHEAD
    mapped.close()


def test_a_width_that_changes_is_followed() -> None:
    calls, width = Calls(), [1]
    mapped = Map(calls.submit, itertools.count(), lambda: width[0], False, False)
    calls_before = threading.Thread(target=mapped.__next__)
    calls_before.start()
    wait_for(lambda: len(calls.submitted) == AHEAD)
    width[0] = 4
    calls.done(0)
    calls_before.join(10)
    calls.done(1)
    assert next(mapped) == 10
    assert len(calls.open) + 1 == 4 * AHEAD
    mapped.close()


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(5000):
        if condition():
            return
        pause.wait(0.002)
    pytest.fail("it never happened")


def test_with_no_place_to_run_one_at_a_time_is_still_tried() -> None:
    assert list(AtOnce().map(range(5), width=0)) == [0, 10, 20, 30, 40]


def test_an_empty_source_gives_nothing() -> None:
    mapped = Calls().map([])
    assert list(mapped) == []
    assert list(mapped) == []


# -- order -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(), max_size=30, unique=True), st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(items: list[int], width: int) -> None:
    assert list(AtOnce().map(items, width)) == [item * 10 for item in items]


@given(st.integers(0, 30), st.integers(1, 5), st.integers(0, 10**6))
def test_results_come_in_order_however_the_calls_end(count: int, width: int, seed: int) -> None:
    assert run_async(count, width, random.Random(seed), unordered=False) == [n * 10 for n in range(count)]


@given(st.integers(0, 30), st.integers(1, 5), st.integers(0, 10**6))
def test_unordered_results_come_each_once(count: int, width: int, seed: int) -> None:
    assert sorted(run_async(count, width, random.Random(seed), unordered=True)) == [n * 10 for n in range(count)]


def run_async(count: int, width: int, rng: random.Random, unordered: bool) -> list[Any]:
    """Read a map in a loop whose other coroutine settles open calls in random order."""
    calls = Calls()

    async def main() -> list[Any]:
        async def settle() -> None:
            while True:
                if calls.open:
                    calls.done(rng.choice(list(calls.open)))
                await asyncio.sleep(0)

        settling = asyncio.create_task(settle())
        got = [value async for value in calls.map(range(count), width, unordered)]
        settling.cancel()
        return got

    return asyncio.run(main())


def test_unordered_results_come_as_they_land() -> None:
    calls = Calls()
    mapped = calls.map(range(3), width=3, unordered=True)
    got: list[Any] = []
    reader = threading.Thread(target=lambda: got.extend(mapped))
    reader.start()
    for n, item in enumerate((2, 0, 1), 1):
        wait_for(lambda item=item: item in calls.open)
        calls.done(item)
        wait_for(lambda n=n: len(got) == n)
    reader.join(10)
    assert got == [20, 0, 10]


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unordered", [False, True])
def test_an_error_is_raised_at_its_place_and_iteration_goes_on(unordered: bool) -> None:
    error = ValueError("item 2")
    mapped = AtOnce({2: error}).map(range(5), unordered=unordered)
    assert [next(mapped), next(mapped)] == [0, 10]
    with pytest.raises(ValueError, match="item 2") as caught:
        next(mapped)
    assert caught.value is error
    assert list(mapped) == [30, 40]


@pytest.mark.parametrize("unordered", [False, True])
def test_errors_are_given_as_results_when_asked_for(unordered: bool) -> None:
    errors = {1: ValueError("item 1"), 3: TaskDied("item 3")}
    got = list(AtOnce(errors).map(range(5), unordered=unordered, return_exceptions=True))
    assert got == [0, errors[1], 20, errors[3], 40]


def test_a_cancelled_call_is_the_error_of_its_item() -> None:
    calls = Calls()
    mapped = calls.map(range(2), return_exceptions=True)

    def cancel_and_settle() -> None:
        wait_for(lambda: 1 in calls.open)
        calls.open[0].cancel()
        calls.done(1)

    other = threading.Thread(target=cancel_and_settle)
    other.start()
    first, second = mapped
    other.join()
    assert isinstance(first, CallCancelled)
    assert second == 10


@pytest.mark.parametrize("error", [StopIteration("of the user"), StopAsyncIteration("of the user")], ids=repr)
@pytest.mark.parametrize("unordered", [False, True])
def test_a_stop_iteration_of_a_call_does_not_end_the_map(error: Exception, unordered: bool) -> None:
    """A bare next() on something empty, in the child, must not lose the results behind it."""
    mapped = AtOnce({1: error}).map(range(3), unordered=unordered)
    assert next(mapped) == 0
    with pytest.raises(RuntimeError) as caught:
        next(mapped)
    assert caught.value.__cause__ is error
    assert list(mapped) == [20]


@pytest.mark.parametrize("error", [StopIteration("of the user"), StopAsyncIteration("of the user")], ids=repr)
def test_a_stop_iteration_of_a_call_does_not_end_the_map_in_a_loop(error: Exception) -> None:
    async def main() -> None:
        mapped = AtOnce({1: error}).map(range(3))
        assert await anext(mapped) == 0
        with pytest.raises(RuntimeError):
            await anext(mapped)
        assert [value async for value in mapped] == [20]

    asyncio.run(main())


@pytest.mark.parametrize("unordered", [False, True])
def test_an_item_that_cannot_be_submitted_is_its_own_error(unordered: bool) -> None:
    calls = AtOnce()

    def submit(item: Any) -> Reply:
        if item == 1:
            raise TypeError("item 1 cannot be sent")
        return calls.submit(item)

    mapped = Map(submit, range(3), lambda: 1, unordered, True)
    assert [str(value) for value in mapped] == ["0", "item 1 cannot be sent", "20"]


@pytest.mark.parametrize("unordered", [False, True])
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_an_error_of_the_source_comes_after_the_results_before_it(unordered: bool, return_exceptions: bool) -> None:
    def source() -> Iterator[int]:
        yield from range(3)
        raise OSError("the source broke")

    mapped = AtOnce().map(source(), 2, unordered, return_exceptions)
    assert [next(mapped) for _ in range(3)] == [0, 10, 20]
    with pytest.raises(OSError, match="the source broke"):
        next(mapped)
    with pytest.raises(StopIteration):
        next(mapped)


def test_an_interrupt_in_the_source_reaches_the_caller() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    mapped = AtOnce().map(source())
    assert next(mapped) == 10
    with pytest.raises(KeyboardInterrupt):
        next(mapped)


def test_what_is_no_iterable_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="iterable"):
        Calls().map(3)


# -- leaving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("unordered", [False, True])
def test_close_cancels_what_is_in_flight_and_closes_the_source(unordered: bool) -> None:
    calls, closed = Calls(), []

    def source() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    mapped = calls.map(source(), unordered=unordered)
    first_done(calls, mapped)
    flight = dict(calls.open)
    mapped.close()
    mapped.close()
    assert flight
    assert all(reply.cancelled() for reply in flight.values())
    assert closed == [True]
    assert list(mapped) == []


def first_done(calls: Calls, mapped: Map) -> None:
    def settle() -> None:
        wait_for(lambda: len(calls.open) > 1)
        calls.done(0)

    other = threading.Thread(target=settle)
    other.start()
    assert next(mapped) == 0
    other.join()


@pytest.mark.parametrize("unordered", [False, True])
def test_with_closes_it(unordered: bool) -> None:
    calls = Calls()
    with calls.map(itertools.count(), unordered=unordered) as mapped:
        first_done(calls, mapped)
        flight = dict(calls.open)
    assert all(reply.cancelled() for reply in flight.values())


@pytest.mark.parametrize("unordered", [False, True])
def test_async_with_closes_it(unordered: bool) -> None:
    async def leave_early() -> dict[Any, Reply]:
        async with calls.map(itertools.count(), unordered=unordered) as mapped:
            await asyncio.to_thread(first_done, calls, mapped)
            return dict(calls.open)

    calls = Calls()
    flight = asyncio.run(leave_early())
    assert flight
    assert all(reply.cancelled() for reply in flight.values())


@pytest.mark.parametrize("unordered", [False, True])
def test_a_map_that_is_left_early_cancels_what_is_in_flight(unordered: bool) -> None:
    """As by ``break``: nobody has the map any more, while its calls are open."""
    calls = Calls()
    mapped = calls.map(itertools.count(), unordered=unordered)
    first_done(calls, mapped)
    flight = dict(calls.open)
    assert flight
    del mapped
    gc.collect()
    settle_io()
    assert all(reply.cancelled() for reply in flight.values())


def test_a_failed_call_of_a_map_that_was_left_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    calls = AtOnce({1: ValueError("nobody asks")})
    mapped = calls.map(range(2))
    assert next(mapped) == 0
    mapped.close()
    del mapped
    gc.collect()
    done = threading.Event()
    calls.strand.submit(done.set)
    assert done.wait(10)
    assert "nobody asks" not in caplog.text


# -- in a loop -------------------------------------------------------------------------------------


async def numbers(count: int, log: list[str] | None = None) -> AsyncIterator[int]:
    try:
        for n in range(count):
            await asyncio.sleep(0)
            yield n
    finally:
        if log is not None:
            log.append("closed")


@pytest.mark.parametrize("unordered", [False, True])
def test_an_async_source_is_mapped(unordered: bool) -> None:
    async def main() -> list[Any]:
        return [value async for value in AtOnce().map(numbers(10), unordered=unordered)]

    assert asyncio.run(main()) == [n * 10 for n in range(10)]


def test_an_async_source_cannot_be_read_without_a_loop() -> None:
    mapped = AtOnce().map(numbers(3))
    with pytest.raises(TypeError, match="async for"):
        next(mapped)


def test_an_error_of_an_async_source_comes_after_the_results_before_it() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise OSError("the source broke")

    async def main() -> None:
        mapped = AtOnce().map(source())
        assert await anext(mapped) == 10
        with pytest.raises(OSError, match="the source broke"):
            await anext(mapped)
        with pytest.raises(StopAsyncIteration):
            await anext(mapped)

    asyncio.run(main())


@pytest.mark.parametrize("unordered", [False, True])
def test_a_reader_that_is_cancelled_loses_no_result(unordered: bool) -> None:
    calls = Calls()

    async def main() -> list[Any]:
        mapped = calls.map(range(2), unordered=unordered)
        reader = asyncio.ensure_future(anext(mapped))
        while len(calls.open) < 2:
            await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert not any(reply.cancelled() for reply in calls.open.values())
        calls.done(0, 1)
        return [value async for value in mapped]

    assert asyncio.run(main()) == [0, 10]


def test_results_settled_by_another_thread_wake_the_loop() -> None:
    calls = Calls()

    async def main() -> list[Any]:
        def settle() -> None:
            for n in range(5):
                wait_for(lambda n=n: n in calls.open)
                calls.done(n)

        other = threading.Thread(target=settle)
        other.start()
        got = [value async for value in calls.map(range(5), unordered=True)]
        other.join()
        return got

    assert sorted(asyncio.run(main())) == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("unordered", [False, True])
def test_a_chunk_whose_items_have_gone_elsewhere_gives_nothing(unordered: bool) -> None:
    """It gives two of its items, says that none is left with it, and that the others come by another Reply."""
    made: list[Chunk] = []

    def submit(items: list[Any]) -> Reply:
        chunk = Chunk("f", DEFAULTS, list(items))
        chunk.encode(PickleSerializer(), (), {})
        chunk.make_reply(Strand())
        made.append(chunk)
        if len(made) == 1:
            chunk.taken = chunk.limit = 2
            (rest,) = chunk.conclude([], 0, range(0), [range(2, 5)], (0, 0.0)).again
            part = Part(chunk, [0, 1])
            part.followers = [(chunk.reply_of().successor(chunk), 0), (rest.reply_of(), 3)]
            chunk.reply_of().settle(part)
            rest.reply_of().settle(Part(chunk, [2, 3, 4]))
        else:
            chunk.reply_of().settle(Part(chunk, [5 + n for n in range(len(items))]))
        return chunk.reply_of()

    mapped = Map(lambda item: None, range(7), lambda: 1, unordered, False, submit)  # type: ignore[arg-type,return-value]
    mapped._pace.next_size = lambda read: 5  # type: ignore[method-assign]
    assert sorted(mapped) == list(range(7))


# -- items that came together, read by loops -------------------------------------------------------


class Fives:
    """Five items travel together; an item gives itself, or what is said, or raises that."""

    def __init__(self, **given: Any) -> None:
        self.given = {int(item[1:]): value for item, value in given.items()}
        self.chunks: list[Reply] = []
        self.open = 100
        """How many chunks are answered; those behind them stay in flight."""

    def submit(self, items: list[Any]) -> Reply:
        chunk = Chunk("f", DEFAULTS, items)
        chunk.encode(PickleSerializer(), (), {})
        reply = chunk.make_reply(Strand())
        assert isinstance(reply, Reply)
        self.chunks.append(reply)
        if len(self.chunks) <= self.open:
            several = Several(0)
            for item in items:
                several.add(self.outcome(several, self.given.get(item, item)))
            reply.settle(Part(chunk, several.payload(len(items))))
        return reply

    def outcome(self, several: Several, value: Any) -> Any:
        if isinstance(value, Exception):
            return several.sealed(Kind.ERROR, error_payload(PickleSerializer(), value))
        return value if isinstance(value, int) else several.sealed(Kind.RESULT, PickleSerializer().encode(value))

    def map(self, items: Any, unordered: bool = False) -> Map:
        mapped = Map(lambda item: None, items, lambda: 1, unordered, False, self.submit)  # type: ignore[arg-type,return-value]
        mapped._pace.next_size = lambda read: 5  # type: ignore[method-assign]
        return mapped


def test_it_makes_no_difference_by_which_loop_a_map_is_read() -> None:
    mapped = Fives(_7=[7]).map(range(30))
    first, got = iter(mapped), []
    for value in mapped:
        got.append(value)
        if value == 2:
            break
    got += [next(mapped), next(first), *itertools.islice(mapped, 1), next(first), next(mapped), next(first)]
    other = iter(mapped)
    for value in other:
        got.append(value)
        if value in (11, 14):
            got += [next(first), next(mapped)]
    assert got == [*range(7), [7], *range(8, 30)]
    assert [*first, *other, *mapped] == []
    with pytest.raises(StopIteration):
        next(mapped)


@pytest.mark.parametrize("wrong", range(7))
def test_a_loop_goes_on_after_an_error(wrong: int) -> None:
    loop = iter(Fives(**{f"_{wrong}": ValueError(wrong)}).map(range(12)))
    got: list[int] = []
    with pytest.raises(ValueError, match=str(wrong)):
        got.extend(iter(loop.__next__, None))
    assert list(loop) == list(range(wrong + 1, 12))


def test_a_loop_over_a_map_that_is_closed_ends() -> None:
    mapped = Fives().map(range(30))
    loop = iter(mapped)
    assert [next(loop), next(loop)] == [0, 1]
    mapped.close()
    assert list(loop) == list(mapped) == list(iter(mapped)) == []


def test_an_error_of_the_source_comes_out_of_a_loop_once() -> None:
    def source() -> Iterator[int]:
        yield from range(7)
        raise OSError("the source broke")

    loop, got = iter(Fives().map(source())), []
    with pytest.raises(OSError, match="the source broke"):
        got.extend(value for value in loop)
    assert list(loop) == []


def test_a_loop_that_is_left_cancels_what_is_in_flight() -> None:
    fives = Fives()
    fives.open = 1
    for value in fives.map(itertools.repeat(1)):
        if value:
            break
    settle_io()
    assert len(fives.chunks) == 2
    assert fives.chunks[1].cancelled()


def test_a_generator_that_is_closed_closes_the_map_that_it_reads() -> None:
    fives = Fives()
    fives.open = 1
    mapped = fives.map(itertools.repeat(1))

    def read() -> Iterator[int]:
        yield from mapped

    reading = read()
    assert next(reading) == 1
    reading.close()  # type: ignore[attr-defined]
    assert fives.chunks[1].cancelled()
    assert list(mapped) == []


def test_results_that_are_no_plain_values_are_let_go_of_as_they_are_read() -> None:
    mapped = Fives(**{f"_{n}": {n} for n in range(5)}).map(range(5))
    loop = iter(mapped)
    first = weakref.ref(next(loop))
    assert first() is None
    assert next(loop) == {1}
