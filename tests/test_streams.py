"""A stream with a fake carrier: order, backpressure, errors, and a reader who leaves."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from replying import encoded_error

from relieve_py.answers import Encoded
from relieve_py.calls import Call, CallOptions, Mode
from relieve_py.errors import TaskDied
from relieve_py.serializers import Payload, PickleSerializer
from relieve_py.strands import Strand
from relieve_py.streams import Items, Stream
from relieve_py.supervisor import shared
from relieve_py.wire import STREAM_WINDOW

PICKLE = PickleSerializer()


class Producer:
    """Stands for the slot and the child behind it: sends as many items as it has credit for, when it is read."""

    def __init__(self, count: int, reads: bool = True) -> None:
        self.left = list(range(count))
        self.credit_left = STREAM_WINDOW
        self.ahead = self.most_ahead = 0
        self.cancelled = 0
        self.grants: list[int] = []
        self._reads = reads
        self.call = Call(Mode.STREAM, "rows", CallOptions())
        self.call.carrier = self
        self.call.number = 1
        self.stream = self.call.make_reply(Strand())

    @property
    def items(self) -> Items:
        assert isinstance(self.call.reply, Items)
        return self.call.reply

    def send(self) -> None:
        while self.left and self.credit_left:
            self.credit_left -= 1
            self.items.item(item(self.left.pop(0)))
        if not self.left:
            self.items.settle(None)

    def cancel(self, call: Call) -> None:
        assert call is self.call
        self.cancelled += 1

    def read_for(self, call: Call, settled: Callable[[], bool], deadline: float | None) -> None:
        if self._reads:
            self.send()

    def attend(self, call: Call) -> None:
        asyncio.get_running_loop().call_soon(self.send)

    def credit(self, call: Call, items: int) -> None:
        self.grants.append(items)
        self.credit_left += items
        assert self.credit_left <= STREAM_WINDOW


def item(value: Any) -> Encoded:
    return Encoded(PICKLE, PICKLE.encode(value), "an item")


def take_stream(producer: Producer) -> Any:
    stream, producer.stream = producer.stream, None  # type: ignore[assignment]
    assert isinstance(stream, Stream)
    return stream


def settle_io() -> None:
    done = threading.Event()
    shared().post(done.set)
    assert done.wait(10)


@pytest.mark.parametrize("count", [0, 1, STREAM_WINDOW, STREAM_WINDOW + 1, 1000])
def test_all_items_come_in_order(count: int) -> None:
    assert list(take_stream(Producer(count))) == list(range(count))


@pytest.mark.parametrize("count", [0, 1, STREAM_WINDOW + 1, 1000])
def test_all_items_come_in_order_in_a_loop(count: int) -> None:
    async def main() -> list[Any]:
        return [value async for value in take_stream(Producer(count))]

    assert asyncio.run(main()) == list(range(count))


def test_the_child_is_given_credit_as_items_are_taken() -> None:
    producer = Producer(1000)
    stream = take_stream(producer)
    for taken in range(1, 1001):
        next(stream)
        assert sum(producer.grants) <= taken
        assert taken - sum(producer.grants) < STREAM_WINDOW // 2 or not producer.left
    assert len(producer.grants) < 1000 / 10, "a frame of credit for each item would cost as much as the item"


def test_items_of_another_thread_wake_the_reader() -> None:
    producer = Producer(3, reads=False)
    stream = take_stream(producer)
    got: list[Any] = []
    reader = threading.Thread(target=lambda: got.extend(stream))
    reader.start()
    producer.send()
    reader.join(10)
    assert got == [0, 1, 2]


def test_an_error_comes_after_the_items_before_it_and_once() -> None:
    producer = Producer(2, reads=False)
    stream = take_stream(producer)
    for n in range(2):
        producer.items.item(item(n))
    assert producer.items.fail(TaskDied("half-way"))
    assert not producer.items.fail(TaskDied("again"))
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(TaskDied, match="half-way"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("error", [StopIteration("of the user"), StopAsyncIteration("of the user")], ids=repr)
@pytest.mark.parametrize("in_loop", [False, True])
def test_a_stop_iteration_of_the_child_does_not_look_like_the_end(error: Exception, in_loop: bool) -> None:
    producer = Producer(0, reads=False)
    stream = take_stream(producer)
    data = bytes(PICKLE.encode(error).data)
    producer.items.settle(encoded_error(type(error).__name__, "of the user", "", data))

    async def read() -> Any:
        return await anext(stream)

    with pytest.raises(RuntimeError) as caught:
        asyncio.run(read()) if in_loop else next(stream)
    assert type(caught.value.__cause__) is type(error)


def test_an_item_that_cannot_be_rebuilt_ends_the_stream_with_its_error() -> None:
    producer = Producer(5, reads=False)
    stream = take_stream(producer)
    producer.items.item(Encoded(PICKLE, Payload(b"garbage"), "an item of rows()"))
    with pytest.raises(ValueError, match=r"an item of rows\(\) cannot be rebuilt"):
        next(stream)
    assert producer.cancelled == 1
    assert list(stream) == []


@pytest.mark.parametrize("way", ["close", "with", "aclose", "async with"])
def test_closing_cancels_the_call_once(way: str) -> None:
    producer = Producer(1000)
    stream = take_stream(producer)
    assert next(stream) == 0

    async def in_loop() -> None:
        if way == "aclose":
            await stream.aclose()
        else:
            async with stream:
                assert await anext(stream) == 1

    if way == "close":
        stream.close()
    elif way == "with":
        with stream:
            assert next(stream) == 1
    else:
        asyncio.run(in_loop())
    stream.close()
    assert producer.cancelled == 1
    assert producer.items.cancelled()
    assert list(stream) == []


def test_items_that_come_after_closing_are_dropped() -> None:
    producer = Producer(10, reads=False)
    stream = take_stream(producer)
    stream.close()
    producer.items.item(item(1))
    producer.items.settle(None)
    assert list(stream) == []


def test_a_stream_that_was_read_to_its_end_is_not_cancelled() -> None:
    producer = Producer(5)
    stream = take_stream(producer)
    list(stream)
    stream.close()
    del stream
    gc.collect()
    settle_io()
    assert producer.cancelled == 0


def test_a_stream_that_is_left_early_is_cancelled() -> None:
    """As by ``break``: nobody has the stream any more, while its call is open."""
    producer = Producer(1000)
    for value in take_stream(producer):
        if value == 3:
            break
    gc.collect()
    settle_io()
    assert producer.cancelled == 1


def test_a_stream_that_is_left_is_not_cancelled_by_the_thread_that_lets_go() -> None:
    """The collector may do that in the middle of a lock that cancelling needs."""
    producer = Producer(1000)
    threads: list[int] = []
    producer.cancel = lambda call: threads.append(threading.get_ident())  # type: ignore[method-assign]
    next(take_stream(producer))
    gc.collect()
    settle_io()
    assert threads == [shared()._thread.ident]


def test_a_reader_that_is_cancelled_in_its_loop_loses_no_item() -> None:
    producer = Producer(3, reads=False)
    producer.attend = lambda call: None  # type: ignore[method-assign]

    async def main() -> list[Any]:
        stream = take_stream(producer)
        reader = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        producer.send()
        return [value async for value in stream]

    assert asyncio.run(main()) == [0, 1, 2]


def test_whether_an_item_has_come_is_known_for_retries() -> None:
    producer = Producer(2, reads=False)
    assert not producer.call.partly_answered
    producer.items.item(item(1))
    assert producer.call.partly_answered
    take_stream(producer).close()
