"""An event loop as a reader of channels: here, of pipes."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from relieve_py import loops
from relieve_py.loops import LoopReader, Waiter
from relieve_py.supervisor import shared
from relieve_py.testing import Simulation

T = 20
NEVER = 1e6  # seconds


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def reader_here() -> LoopReader:
    reader = LoopReader.of(asyncio.get_running_loop())
    assert reader is not None
    return reader


async def on_io_thread(function: Callable[..., object], *args: Any) -> None:
    done = Waiter()
    shared().post(lambda: (function(*args), done.wake()))
    await done.future


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, T))


def test_it_reads_in_the_loop_what_the_io_thread_gives_it(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        reader, came = reader_here(), asyncio.Event()
        read: list[tuple[bytes, threading.Thread]] = []

        def take() -> None:
            read.append((os.read(pipe[0], 1), threading.current_thread()))
            came.set()

        await on_io_thread(reader.take, pipe[0], take, lambda: None)
        for byte in (b"1", b"2"):
            os.write(pipe[1], byte)
            await came.wait()
            came.clear()
        assert read == [(b"1", threading.main_thread()), (b"2", threading.main_thread())]
        reader.leave(pipe[0])
        reader.leave(pipe[0])
        os.write(pipe[1], b"3")
        await on_io_thread(lambda: None)
        assert len(read) == 2

    run(main())


def test_who_waits_for_what_it_reads_is_woken_without_another_thread(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        reader, waiter = reader_here(), Waiter()

        def take() -> None:
            os.read(pipe[0], 1)
            monkeypatch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", None)
            waiter.wake()
            waiter.wake()
            monkeypatch.undo()

        await on_io_thread(reader.take, pipe[0], take, lambda: None)
        os.write(pipe[1], b"1")
        await waiter.future

    run(main())


def test_a_loop_that_is_kept_busy_gives_back_what_it_reads(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        reader, given_back = reader_here(), list[threading.Thread]()
        is_back = threading.Event()

        def give_back() -> None:
            given_back.append(threading.current_thread())
            reader.leave(pipe[0])
            is_back.set()

        for times in (1, 2):
            await on_io_thread(reader.take, pipe[0], lambda: None, give_back)
            assert is_back.wait(T), "while this keeps the loop"
            is_back.clear()
            assert len(given_back) == times
        assert {thread.name for thread in given_back} == {"relieve-io"}

    run(main())


def test_a_loop_that_comes_round_keeps_it(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "QUICK", NEVER)  # it is looked here, not by a timer

    async def main() -> None:
        reader, read, given_back = reader_here(), list[bytes](), list[int]()
        await on_io_thread(reader.take, pipe[0], lambda: read.append(os.read(pipe[0], 1)), lambda: given_back.append(1))
        for _ in range(3):
            os.write(pipe[1], b"1")
            while not read:
                await asyncio.sleep(0)
            read.clear()
            await on_io_thread(reader._look)
        assert not given_back
        await on_io_thread(reader._look)
        assert given_back
        reader.leave(pipe[0])

    run(main())


def test_it_is_there_as_long_as_its_loop_is_open() -> None:
    async def main() -> tuple[weakref.ref[LoopReader], int]:
        reader = reader_here()
        assert reader_here() is reader
        gc.collect()
        return weakref.ref(reader), reader._poller.fileno()

    reader, fd = run(main())
    assert reader() is None
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_each_loop_has_its_own() -> None:
    async def main() -> LoopReader:
        return reader_here()

    first = run(main())
    loops._all[id(first)] = first  # of a loop that was at the same place in memory
    second = asyncio.new_event_loop()
    try:
        loops._all[id(second)] = first
        assert LoopReader.of(second) is not first
    finally:
        second.close()


def test_a_simulation_has_none() -> None:
    async def main() -> None:
        assert reader_here() is not None
        with Simulation():
            assert LoopReader.of(asyncio.get_running_loop()) is None

    run(main())


@pytest.mark.parametrize("error", [NotImplementedError, OSError, RuntimeError, TypeError])
def test_a_loop_that_cannot_read_is_woken_all_the_same(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        def refuse(*args: Any) -> None:
            raise error

        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
        assert LoopReader.of(asyncio.get_running_loop()) is None
        await on_io_thread(lambda: None)

    run(main())


def test_a_loop_that_is_closed_is_not_woken() -> None:
    async def main() -> Waiter:
        return Waiter()

    loops.of_thread.woke = None
    run(main()).wake()
    assert loops.of_thread.woke is None


def test_a_forked_copy_has_none_of_them() -> None:
    async def main() -> None:
        reader = reader_here()
        pid = os.fork()
        if pid == 0:
            os._exit(len(loops._all))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert reader_here() is reader

    run(main())
