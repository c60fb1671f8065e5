"""Streams among the arguments of a call: read by the child as they are produced, and what ends them early."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relieve_py import (
    CallableTask,
    CallCancelled,
    CloudWorker,
    EncodeError,
    NotRepeatable,
    ProtocolError,
    TaskDied,
    feed,
)
from relieve_py.calls import Call, CallOptions, Mode
from relieve_py.serializers import PickleSerializer
from relieve_py.supervisor import shared
from relieve_py.wire import STREAM_BYTES, STREAM_WINDOW, Frame, Kind

FEEDING = str(Path(__file__).parent / "scripts" / "feeding.py")
T = 20
"""Seconds after which something that should happen at once counts as missing."""


@pytest.fixture(scope="module", params=[1, 3], ids=["one at a time", "many at once"])
def task(request: pytest.FixtureRequest) -> Iterator[CallableTask]:
    with CallableTask(FEEDING, concurrency=request.param) as task:
        yield task


class Source:
    """An endless generator of numbers that says how far it went, and when it was closed."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = threading.Event()
        self.threads: set[str] = set()

    def rows(self) -> Iterator[int]:
        try:
            while True:
                self.threads.add(threading.current_thread().name)
                yield self.given
                self.given += 1
        finally:
            self.closed.set()


async def async_rows(n: int) -> AsyncIterator[int]:
    for row in range(n):
        await asyncio.sleep(0)
        yield row


class Rows:
    """An iterable that makes a generator."""

    def __iter__(self) -> Iterator[int]:
        yield from range(100)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (n for n in range(100)),
        lambda: feed(range(100)),
        lambda: feed(iter(range(100))),
        lambda: feed(Rows()),
        lambda: async_rows(100),
        lambda: feed(async_rows(100)),
    ],
    ids=["generator", "range", "iterator", "iterable", "async generator", "marked async generator"],
)
@pytest.mark.parametrize("method", ["total", "total_in_a_loop"])
def test_a_stream_is_read_by_the_called_function(task: CallableTask, method: str, make: Callable[[], Any]) -> None:
    assert task.get(method, make()).result(T) == sum(range(100))

    async def in_a_loop() -> Any:
        return await task.get(method, make())

    assert asyncio.run(in_a_loop()) == sum(range(100))


def test_streams_may_be_keyword_arguments_and_marked_ones_may_be_anywhere(task: CallableTask) -> None:
    assert task.get("total", (n for n in range(5)), more=(n for n in range(7))).result(T) == 10 + 21
    assert task.get("inside", {"rows": feed(range(5))}).result(T) == 10


def test_a_call_without_a_value_reads_its_stream_too(task: CallableTask) -> None:
    total = task.wait_for("total")
    task.call("told_total", (n for n in range(1000))).result(T)
    assert total.result(T) == (499500,)


def test_streams_flow_both_ways_at_once_and_from_task_to_task(task: CallableTask) -> None:
    source = Source()
    with task.stream("doubled", source.rows()) as rows:
        assert [next(rows) for _ in range(1000)] == list(range(0, 2000, 2))
        assert source.given <= 1000 + 3 * STREAM_WINDOW
    assert source.closed.wait(T)

    async def chained() -> Any:
        rows = [row async for row in second.stream("doubled", task.stream("doubled", (n for n in range(4))))]
        return rows, await second.get("total", task.map("total", [(1, 2), (3, 4)]))

    with CallableTask(FEEDING) as second:
        assert asyncio.run(chained()) == ([0, 4, 8, 12], 10)


def test_the_source_is_read_as_far_as_the_child_reads_and_on_a_thread_of_its_own(task: CallableTask) -> None:
    source = Source()
    assert task.get("first", source.rows(), 1000).result(T) == list(range(1000))
    assert source.closed.wait(T)
    assert 999 <= source.given <= 1000 + STREAM_WINDOW
    assert all(name.startswith("relieve-callbacks") for name in source.threads)


def test_large_items_wait_for_one_another(task: CallableTask) -> None:
    given = []

    def blocks() -> Iterator[bytes]:
        for _ in range(100):
            given.append(1)
            yield bytes(STREAM_BYTES // 2)

    task.get("first", blocks(), 1).result(T)
    assert len(given) <= 6


def test_what_is_not_read_is_not_produced(task: CallableTask) -> None:
    source = Source()
    assert task.get("read_nothing", source.rows()).result(T) == "Inflow"
    assert source.given == 0
    assert task.get("open_streams").result(T) == 0


@pytest.mark.parametrize("size", [0, 1, 100_000, 1 << 21])
def test_a_binary_file_arrives_as_one(task: CallableTask, size: int, tmp_path: Path) -> None:
    data = b"a line\n" + bytes(range(256)) * (size // 256 + 1)
    expected = hashlib.sha256(data).hexdigest()
    assert task.get("digest", feed(io.BytesIO(data))).result(T) == expected
    (tmp_path / "file").write_bytes(data)
    with open(tmp_path / "file", "rb") as file:
        assert task.get("digest", feed(file)).result(T) == expected
        assert not file.closed, "it is the user's to close"


def test_a_text_file_is_a_stream_of_its_lines(task: CallableTask) -> None:
    assert task.get("first", feed(io.StringIO("one\ntwo\n")), 2).result(T) == ["one\n", "two\n"]


# -- errors of the source --------------------------------------------------------------------------


def broken() -> Iterator[int]:
    yield 1
    yield 2
    raise KeyError("the source")


async def broken_async() -> AsyncIterator[int]:
    yield 1
    yield 2
    raise KeyError("the source")


@pytest.mark.parametrize("make", [broken, broken_async])
def test_what_the_source_raises_reaches_the_function_after_the_items_and_once(
    task: CallableTask, make: Callable[[], Any]
) -> None:
    assert task.get("every_item_then_error", make()).result(T) == ([1, 2], "KeyError")
    assert task.get("told_error", make()).result(T) == ("KeyError", "'the source'", [])
    with pytest.raises(KeyError, match="the source"):
        task.get("total", make()).result(T)


class Ends:
    def __reduce__(self) -> Any:
        raise TypeError("stays here")


def test_an_item_that_cannot_be_sent_is_an_error_there_and_closes_the_source(task: CallableTask) -> None:
    closed = threading.Event()

    def rows() -> Iterator[Any]:
        try:
            yield 1
            yield Ends()
        finally:
            closed.set()

    assert task.get("every_item_then_error", rows()).result(T) == ([1], "EncodeError")
    assert closed.wait(T)


@pytest.mark.parametrize(
    ("file", "error"),
    [(io.StringIO("text"), "TypeError"), (None, "OSError")],
    ids=["text where bytes are due", "a read that fails"],
)
def test_a_file_that_gives_no_bytes_is_an_error_there(task: CallableTask, file: Any, error: str) -> None:
    class Wrapped:
        def read(self, n: int) -> Any:
            if file is None:
                raise OSError("the disk")
            return file.read(n)

    with pytest.raises((TypeError, OSError)) as caught:
        task.get("digest", feed(Wrapped())).result(T)
    assert type(caught.value).__name__ == error


def test_a_source_whose_event_loop_has_ended_is_an_error_there(task: CallableTask) -> None:
    async def begin() -> Any:
        return task.get("every_item_then_error", async_rows(10**9))

    got, error = asyncio.run(begin()).result(T)
    assert error == "RelieveError"
    assert got == list(range(len(got)))


# -- early ends ------------------------------------------------------------------------------------


def test_a_function_that_closes_its_stream_closes_the_source_while_it_goes_on(task: CallableTask) -> None:
    source, may_end = Source(), threading.Event()
    closed = task.wait_for("closed")
    task.on("may I end", lambda: may_end.wait(T))
    try:
        reply = task.get("first_and_close", source.rows())
        assert source.closed.wait(T)
        assert closed.result(T) == (0, [])
        assert not reply.done()
        may_end.set()
        reply.result(T)
    finally:
        task.off("may I end")
    assert task.get("open_streams").result(T) == 0


class Pausing(Source):
    """Gives one item, and the next when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()

    def rows(self) -> Iterator[int]:
        try:
            yield 0
            self.may.wait(T)
            yield 1
        finally:
            self.closed.set()


def test_a_cancelled_call_closes_its_source(task: CallableTask) -> None:
    source = Pausing()
    row = task.wait_for("row")
    reply = task.get("wait_for_more", source.rows())
    row.result(T)
    assert reply.cancel()
    with pytest.raises(CallCancelled):
        reply.result()
    source.may.set()
    assert source.closed.wait(T)
    assert task.get("nothing").result(T) is None
    assert task.get("open_streams").result(T) == 0


def test_an_async_source_of_a_cancelled_call_is_closed_in_its_loop(task: CallableTask) -> None:
    async def main() -> None:
        closed, begun = asyncio.Event(), asyncio.Event()

        async def rows() -> AsyncIterator[int]:
            try:
                while True:
                    yield 1
                    begun.set()
            finally:
                closed.set()

        reply = task.get("wait_for_more", rows())
        await asyncio.wait_for(begun.wait(), T)
        reply.cancel()
        await asyncio.wait_for(closed.wait(), T)

    asyncio.run(main())


def test_a_child_that_dies_closes_the_source_of_its_call() -> None:
    source = Source()
    with CallableTask(FEEDING) as task:
        with pytest.raises(TaskDied):
            task.get("die_after", source.rows(), 3).result(T)
        assert source.closed.wait(T)
        assert task.get("total", feed(range(5))).result(T) == 10


def test_a_call_that_has_read_of_its_stream_is_not_tried_again_and_says_so() -> None:
    source = Source()
    with CallableTask(FEEDING) as task:
        with pytest.raises(NotRepeatable, match="cannot be read again") as caught:
            task.options(retries=3).get("die_after", source.rows(), 3).result(T)
        assert isinstance(caught.value.__cause__, TaskDied)
        assert caught.value.method == "die_after"
        assert source.closed.wait(T)
        assert task.restarts <= 1


def test_a_call_that_has_read_nothing_takes_its_stream_to_the_next_child(tmp_path: Path) -> None:
    with CloudWorker(CallableTask(FEEDING), size=1, retries=1) as worker:
        reply = worker.get("die_once_before", str(tmp_path / "died"), (n for n in range(100)))
        assert reply.result(T) == sum(range(100))


def test_a_stream_ends_with_its_call(task: CallableTask) -> None:
    source = Source()
    assert task.get("keep", source.rows()).result(T) == 0
    assert source.closed.wait(T)
    kept = task.get("read_kept").result(T)
    assert kept[0] == "RelieveError"
    assert "is over" in kept[1]
    assert task.get("open_streams").result(T) == 0


def test_a_stream_that_is_first_read_after_its_call_is_over_ends_at_once(task: CallableTask) -> None:
    task.get("keep_unread", (n for n in range(3))).result(T)
    assert task.get("read_kept").result(T) == ("RelieveError", "the call that this stream came with is over")


def test_a_stream_may_be_read_by_a_thread_of_the_child(task: CallableTask) -> None:
    assert task.get("later", (n for n in range(1000))).result(T) == 499500


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["text", b"bytes", 3, None])
def test_what_is_no_stream_is_refused(source: Any) -> None:
    with pytest.raises(TypeError, match="a feed is made of"):
        feed(source)


def test_a_stream_goes_with_one_call_only(task: CallableTask) -> None:
    marked, generator = feed(range(3)), (n for n in range(3))
    assert task.get("total", marked).result(T) == 3
    assert task.get("total", generator).result(T) == 3
    for again in (marked, generator):
        with pytest.raises(EncodeError, match="goes with another call already"):
            task.get("total", again)


def test_a_stream_of_a_call_that_was_not_made_may_go_with_another(task: CallableTask) -> None:
    marked, generator = feed(range(3)), (n for n in range(3))
    with pytest.raises(EncodeError, match="stays here"):
        task.get("total", marked, generator, Ends())
    assert task.get("total", marked, generator).result(T) == 6


def test_a_stream_goes_to_the_first_task_of_a_broadcast_and_the_others_say_so() -> None:
    with CloudWorker(CallableTask(FEEDING), size=2) as worker:
        first, second = worker.broadcast_get("total", (n for n in range(3))).result(T)
        assert first.result() == 3
        with pytest.raises(EncodeError, match="another call"):
            second.result()


def test_events_start_arguments_and_plain_data_carry_no_streams(task: CallableTask) -> None:
    with pytest.raises(EncodeError, match="goes only with a call"):
        task.send("rows", (n for n in range(3)))
    with pytest.raises(EncodeError, match="goes only with a call"):
        CallableTask(FEEDING, args=[feed(range(3))]).start()
    with pytest.raises(EncodeError, match=r"args\[0\]\[0\]"):
        task.get("total", [(n for n in range(3))])
    with CallableTask(FEEDING, serializer="json") as plain, pytest.raises(EncodeError, match="json"):
        plain.get("total", (n for n in range(3)))


def test_a_child_cannot_take_more_than_it_was_given_nor_what_is_anothers() -> None:
    call = Call(Mode.GET, "total", CallOptions())
    call.encode(PickleSerializer(), ((n for n in range(3)),), {})
    (given,) = call.feeds
    sent: list[Frame] = []
    with pytest.raises(ProtocolError, match="were taken"):
        given.taken(1, sent.append)
    assert not given.begun
    all_given = threading.Event()

    def post(frame: Frame) -> None:
        sent.append(frame)
        if frame.kind == Kind.FED:
            all_given.set()

    given.taken(0, post)
    assert all_given.wait(T)
    assert [frame.kind for frame in sent] == [Kind.FEED] * 3 + [Kind.FED]
    assert not shared().here
    with pytest.raises(ProtocolError, match="were taken"):
        given.taken(4, post)
