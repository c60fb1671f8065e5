"""The children of a worker as a stream: order, pace, errors, and whoever leaves early."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import queue
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relieve_py import CallableTask, CloudWorker, MethodNotFound, TaskDied, locks
from relieve_py.piping import AHEAD, Pipe
from relieve_py.strands import threads

SCRIPTS = Path(__file__).parent / "scripts"
KITCHEN = str(SCRIPTS / "kitchen.py")
T = 20
"""Seconds after which something that should happen at once counts as missing."""
SIZE = 2
ROOM = SIZE * AHEAD


@pytest.fixture(scope="module")
def worker() -> Iterator[CloudWorker]:
    with CloudWorker(CallableTask(KITCHEN), size=SIZE) as worker:
        yield worker


class Source:
    """Endless numbers, which says how far it went, and when it was closed."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[int]:
        try:
            while True:
                self.given += 1
                yield self.given
        finally:
            self.closed.set()

    async def in_loop(self) -> AsyncIterator[int]:
        try:
            while True:
                self.given += 1
                yield self.given
                await asyncio.sleep(0)
        finally:
            self.closed.set()


async def async_range(n: int) -> AsyncIterator[int]:
    for item in range(n):
        yield item


async def listed(pipe: Pipe) -> list[Any]:
    return [result async for result in pipe]


@pytest.mark.parametrize("unordered", [False, True])
@pytest.mark.parametrize("in_loop", [False, True])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_every_result_comes_out(worker: CloudWorker, unordered: bool, in_loop: bool, count: int) -> None:
    async def in_a_loop() -> list[Any]:
        return await listed(worker.pipe(async_range(count), "add", unordered=unordered))

    results = asyncio.run(in_a_loop()) if in_loop else list(worker.pipe(range(count), "add", unordered=unordered))
    assert (sorted(results) if unordered else results) == list(range(1, count + 1))


def test_an_async_source_may_be_read_without_a_loop_and_a_sync_one_in_a_loop(worker: CloudWorker) -> None:
    assert list(worker.pipe(async_range(10), "add")) == list(range(1, 11))

    async def main() -> list[Any]:
        return await listed(worker.pipe(iter(range(10)), "add"))

    assert asyncio.run(main()) == list(range(1, 11))


def test_a_result_comes_out_while_the_source_has_no_next_item(worker: CloudWorker) -> None:
    """With map, whose reader reads the source too, this would hang."""
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    with worker.pipe(iter(items.get, -1), "add") as pipe:
        for n in range(20):
            items.put(n)
            assert next(pipe) == n + 1
        items.put(-1)
        assert list(pipe) == []
        assert list(pipe) == []


def test_a_reader_may_wait_for_long(worker: CloudWorker) -> None:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    with worker.pipe(iter(items.get, -1), "add") as pipe:
        timer = threading.Timer(3 * locks.PATIENCE, items.put, [1])
        timer.start()
        assert next(pipe) == 2
        timer.join()
        items.put(-1)
        assert list(pipe) == []


def test_in_order_a_slow_call_is_waited_for_and_unordered_it_is_not(worker: CloudWorker, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    for unordered in (False, True):
        items: list[Any] = [("wait_for_file", gate), ("echo", 1), ("echo", 2)]
        with worker.pipe(items, "run_one", unordered=unordered) as pipe:
            got: list[Any] = [next(pipe), next(pipe)] if unordered else []
            Path(gate).write_text("first")
            got += list(pipe)
        assert got == ([1, 2, "first"] if unordered else ["first", 1, 2])


@pytest.mark.parametrize("unordered", [False, True])
def test_a_slow_reader_holds_up_the_source(worker: CloudWorker, unordered: bool) -> None:
    source = Source()
    with worker.pipe(source, "add", unordered=unordered) as pipe:
        taken = set(itertools.islice(pipe, 50))
        worker.drain().result(T)
        assert source.given <= 50 + ROOM + 1
        assert len(taken) == 50
    assert source.closed.wait(T)


def test_an_error_is_at_its_place_and_the_rest_comes_after_it(worker: CloudWorker) -> None:
    pipe = worker.pipe([1, "x", 3], "add")
    assert next(pipe) == 2
    with pytest.raises(TypeError):
        next(pipe)
    assert list(pipe) == [4]
    one, error, three = worker.pipe([1, "x", 3], "add", return_exceptions=True)
    assert (one, type(error), three) == (2, TypeError, 4)
    (missing,) = worker.pipe([1], "no_such", return_exceptions=True)
    assert isinstance(missing, MethodNotFound)


def test_an_item_that_cannot_be_sent_is_an_error_at_its_place(worker: CloudWorker) -> None:
    one, error, three = worker.pipe([1, Unsendable(), 3], "add", return_exceptions=True)
    assert (one, type(error).__name__, three) == (2, "EncodeError", 4)


class Unsendable:
    def __reduce__(self) -> Any:
        raise TypeError("stays here")


def broken() -> Iterator[int]:
    yield 1
    raise KeyError("the source")


async def broken_async() -> AsyncIterator[int]:
    yield 1
    raise KeyError("the source")


@pytest.mark.parametrize("make", [broken, broken_async])
def test_what_the_source_raises_comes_after_the_results_and_once(worker: CloudWorker, make: Callable[[], Any]) -> None:
    pipe = worker.pipe(make(), "add")
    assert next(pipe) == 2
    with pytest.raises(KeyError, match="the source"):
        next(pipe)
    assert list(pipe) == []


def test_a_pipe_that_is_closed_closes_its_source_and_cancels_its_calls(worker: CloudWorker) -> None:
    source = Source()
    hanging = worker.wait_for("hanging")
    pipe = worker.pipe(source, "hang")
    hanging.result(T)
    pipe.close()
    assert source.closed.wait(T)
    assert list(pipe) == []
    worker.drain().result(T)
    assert source.given <= ROOM + 1


def test_a_reader_in_another_thread_is_told_that_the_pipe_was_closed(worker: CloudWorker) -> None:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    pipe = worker.pipe(iter(items.get, -1), "add")
    got: list[Any] = []
    reader = threading.Thread(target=lambda: got.extend(pipe))
    reader.start()
    pipe.close()
    reader.join(T)
    assert not reader.is_alive()
    assert got == []
    items.put(-1)  # the thread that reads the source can only be ended by the source


def test_a_pipe_that_is_abandoned_is_closed(worker: CloudWorker) -> None:
    source = Source()
    pipe = worker.pipe(source, "add")
    assert next(pipe) == 2
    del pipe
    gc.collect()
    assert source.closed.wait(T)
    worker.drain().result(T)


def test_a_pipe_that_a_coroutine_abandons_is_closed(worker: CloudWorker) -> None:
    source = Source()

    async def main() -> None:
        async with worker.pipe(source.in_loop(), "add") as pipe:
            assert await anext(pipe) == 2
        while not source.closed.is_set():
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), T))


def test_a_coroutine_that_is_cancelled_in_the_middle_loses_no_result(worker: CloudWorker) -> None:
    async def main() -> list[Any]:
        items: asyncio.Queue[int] = asyncio.Queue()

        async def source() -> AsyncIterator[int]:
            while (item := await items.get()) >= 0:
                yield item

        pipe = worker.pipe(source(), "add")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(pipe), 0.01)
        for item in (1, 2, 3, -1):
            await items.put(item)
        return await listed(pipe)

    assert asyncio.run(main()) == [2, 3, 4]


def test_a_child_that_dies_costs_its_own_item_only() -> None:
    with CloudWorker(CallableTask(KITCHEN), size=SIZE) as worker:
        items: list[Any] = [("echo", n) for n in range(20)]
        items[7] = ("kill_itself", signal.SIGKILL)
        results = list(worker.pipe(items, "run_one", return_exceptions=True))
        assert isinstance(results[7], TaskDied)
        assert results[:7] + results[8:] == [n for n in range(20) if n != 7]


def test_a_pipe_into_a_pipe_and_into_a_call(worker: CloudWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LINGER", 0.0)  # the thread that waits for the call keeps a pipe as long as it lives
    assert list(worker.pipe(worker.map("add", range(5)), "add")) == [2, 3, 4, 5, 6]

    async def main() -> Any:
        return await worker.get("sum_of", worker.pipe(range(5), "add"))

    assert asyncio.run(main()) == 15


def test_what_is_no_source_is_refused(worker: CloudWorker) -> None:
    with pytest.raises(TypeError, match="iterable"):
        worker.pipe(3, "add")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="named by a string"):
        worker.pipe([], 3)  # type: ignore[arg-type]
