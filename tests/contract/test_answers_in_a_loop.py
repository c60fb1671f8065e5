"""Answers that the event loop which waits for them reads by itself, and whatever may come in between."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support import T, heard, script

from relieve_py import CallableTask, CalledFromHandler, CloudWorker, TaskDied, line, loops
from relieve_py.line import Line
from relieve_py.loops import LoopReader
from relieve_py.slot import Slot
from relieve_py.turns import Turns

NAPPING = script("napping.py")
NEVER = 1e6  # seconds


@pytest.fixture
def task(launcher: str) -> Iterator[CallableTask]:
    with CallableTask(NAPPING, launcher=launcher, restart=True) as task:
        yield task


@pytest.fixture
def is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that has begun to read goes on, however long it does something else."""
    monkeypatch.setattr(line, "QUICK", NEVER)
    monkeypatch.setattr(loops, "QUICK", NEVER)


def reads_in_loop(task: CallableTask) -> bool:
    return isinstance(task._slot._line._reader, LoopReader)


async def until_it_reads(task: CallableTask) -> None:
    while not reads_in_loop(task):
        await task.get("pid")


def in_a_thread(function: Any) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(T)
    assert not thread.is_alive()


def test_calls_one_after_the_other_are_read_in_the_loop(task: CallableTask, monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[threading.Thread] = []
    heard_by = Slot.heard

    def noted(slot: Slot, *args: Any) -> None:
        where.append(threading.current_thread())
        heard_by(slot, *args)

    monkeypatch.setattr(Slot, "heard", noted)

    async def main() -> None:
        while threading.main_thread() not in where:
            assert await task.get("nap", 0) == task.pid

    asyncio.run(main())
    assert where[0] is not threading.main_thread(), "first it has to be seen that they come quickly"


def test_many_at_once_are_left_to_the_io_thread(task: CallableTask, is_kept: None) -> None:
    async def main() -> None:
        await until_it_reads(task)
        await asyncio.gather(*(task.get("nap", 0) for _ in range(20)))
        # The last of them may have been read in the loop again, when no other was left.
        replies = [task.get("nap", 0.001) for _ in range(20)]
        await replies[1]
        assert not reads_in_loop(task)
        await asyncio.gather(*replies)

    asyncio.run(main())


def test_a_worker_of_several_tasks_gets_all_its_answers() -> None:
    async def caller(worker: CloudWorker, calls: int) -> int:
        for number in range(calls):
            assert await worker.get("double", number) == 2 * number
        return calls

    async def main() -> int:
        with CloudWorker(*(CallableTask(script("double.py")) for _ in range(2))) as worker:
            counts = [await asyncio.gather(*(caller(worker, 30) for _ in range(width))) for width in (1, 2, 10)]
        return sum(map(sum, counts))

    assert asyncio.run(main()) == 30 * (1 + 2 + 10)


@pytest.mark.parametrize("how", ["result", "wait", "listener"])
def test_a_loop_that_is_kept_busy_keeps_nobody_waiting(task: CallableTask, how: str) -> None:
    ready = heard(task, "ready")
    pids: list[int] = []

    def other() -> None:
        if how == "listener":
            task.restart().result(T)
            ready.wait(1)
        reply = task.get("pid")
        if how == "wait":
            assert concurrent.futures.wait([reply], T).done == {reply}
        pids.append(reply.result(T))

    async def main() -> None:
        await until_it_reads(task)
        in_a_thread(other)

    asyncio.run(main())
    assert pids == [task.pid]


def test_a_thread_that_waits_reads_where_the_loop_did(task: CallableTask, is_kept: None) -> None:
    async def main() -> None:
        await until_it_reads(task)
        in_a_thread(lambda: task.get("pid").result(T))
        assert await task.get("pid") == task.pid
        await until_it_reads(task)
        assert task.get("pid").result(T) == task.pid, "and so does the loop's own thread"
        assert await task.get("pid") == task.pid

    asyncio.run(main())


def test_a_loop_that_is_closed_leaves_nobody_deaf(task: CallableTask, is_kept: None) -> None:
    for _ in range(3):
        asyncio.run(until_it_reads(task))
        assert task.get("pid").result(T) == task.pid


def test_a_loop_that_is_closed_leaves_the_io_thread_to_read(task: CallableTask) -> None:
    asyncio.run(until_it_reads(task))
    reply = task.get("pid")
    assert concurrent.futures.wait([reply], T).done == {reply}


def test_a_child_may_die_while_the_loop_reads(task: CallableTask, is_kept: None) -> None:
    async def main() -> None:
        for _ in range(3):
            await until_it_reads(task)
            pid, pids = task.pid, task.stream("linger", T)
            assert await anext(pids) == pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(TaskDied):
                await anext(pids)
            assert await task.get("pid") == task.pid != pid

    asyncio.run(main())


def test_it_may_be_stopped_and_started(task: CallableTask, is_kept: None) -> None:
    async def main() -> None:
        for _ in range(3):
            await until_it_reads(task)
            await task.stop()
            await task.start()

    asyncio.run(main())


def test_it_may_be_reloaded(task: CallableTask, is_kept: None) -> None:
    async def main() -> None:
        for _ in range(3):
            await until_it_reads(task)
            before = task.pid
            await task.reload()
            assert await task.get("pid") != before

    asyncio.run(main())


def test_streams_are_no_worse_off(task: CallableTask, is_kept: None) -> None:
    async def main() -> None:
        await until_it_reads(task)
        for _ in range(3):
            assert [pid async for pid in task.stream("trickle", 0.001)] == [task.pid] * 2

    asyncio.run(main())


PLACES = {"heard": Slot, "nudge": Turns, "drop": Turns, "_update_interest": Line}
"""Methods that a loop calls when it reads, and of what."""


def interrupt_once(monkeypatch: pytest.MonkeyPatch, handler: Any, where: str = "heard") -> None:
    """SIGUSR1 comes when the loop begins to do that."""
    method, signals = getattr(PLACES[where], where), [signal.SIGUSR1]

    def interrupted(*args: Any, **named: Any) -> Any:
        if signals and loops.of_thread.reads is not None:
            signal.raise_signal(signals.pop())
        return method(*args, **named)

    monkeypatch.setattr(PLACES[where], where, interrupted)
    signal.signal(signal.SIGUSR1, handler)


@pytest.fixture
def handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("where", ["heard", "drop", "nudge", "_update_interest"])
def test_it_may_be_interrupted(
    where: str, task: CallableTask, is_kept: None, handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        await until_it_reads(task)
        interrupt_once(monkeypatch, signal.default_int_handler, where)
        while True:
            await until_it_reads(task)
            await asyncio.gather(task.get("pid"), task.get("pid"))  # which has it given back

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    reply = task.get("pid")
    assert concurrent.futures.wait([reply], T).done == {reply}, "the I/O thread reads"
    asyncio.run(until_it_reads(task))


def test_a_handler_that_takes_its_time_in_the_middle_keeps_no_processor_busy(
    is_kept: None, handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, others = list[bool](), list[Any]()

    async def main(task: CallableTask) -> None:
        line = task._slot._line
        take = line._turns.take

        def look() -> bool:
            looked.append(take())
            return looked[-1]

        def handler(signum: int, frame: object) -> None:
            in_a_thread(lambda: others.append(task.get("pid")))
            monkeypatch.setattr(line._turns, "take", look)
            line._take_back(line._reader)  # type: ignore[arg-type] # as when it does not come round
            threading.Event().wait(0.1)

        await until_it_reads(task)
        interrupt_once(monkeypatch, handler)
        while not others:
            await task.get("pid")
        assert others[0].result(T) == task.pid

    with CallableTask(NAPPING, concurrency=2) as task:
        asyncio.run(main(task))
    assert 0 < looked.count(False) < 1000, "it looks now and then, not all the time"


def test_a_handler_in_the_middle_is_told_that_it_must_not_wait(
    task: CallableTask, is_kept: None, handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[BaseException] = []

    def handler(signum: int, frame: object) -> None:
        try:
            task.get("pid").result(T)
        except CalledFromHandler as error:
            told.append(error)

    interrupt_once(monkeypatch, handler)

    async def main() -> None:
        while not told:
            assert await task.get("pid") == task.pid

    asyncio.run(main())


def test_a_loop_does_not_read_what_others_wait_for(task: CallableTask, is_kept: None) -> None:
    async def main() -> None:
        await until_it_reads(task)
        replies = [task.get("pid")]
        while reads_in_loop(task):
            await asyncio.sleep(0)
        assert concurrent.futures.wait(replies, T).done == set(replies)

    asyncio.run(main())


def test_two_loops_may_wait_for_one_task(task: CallableTask) -> None:
    async def main() -> None:
        for _ in range(100):
            assert await task.get("pid") == task.pid

    others = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for other in others:
        other.start()
    asyncio.run(main())
    for other in others:
        other.join(T)
        assert not other.is_alive()
