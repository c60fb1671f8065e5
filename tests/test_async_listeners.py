"""Listeners that are coroutine functions: where they run, what they answer, and how they fail."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from relieve_py import coroutines, current_event
from relieve_py.events import Emitter

T = 20
"""Seconds after which something that should happen at once counts as missing."""


class Source:
    """Stands for a task."""


SOURCE = Source()


def settle(emitter: Emitter) -> None:
    """Wait until all that was told has been heard."""
    heard = threading.Event()
    emitter.strand.submit(heard.set)
    assert heard.wait(T)


def answer(emitter: Emitter, name: str, *args: Any) -> tuple[Any, BaseException | None]:
    """What a question gets; asked as a child's is, on the strand."""
    answers: list[tuple[Any, BaseException | None]] = []
    emitter.strand.submit(emitter.ask, "a task", name, args, lambda value, error: answers.append((value, error)))
    settle(emitter)
    (only,) = answers
    return only


def test_without_a_loop_it_runs_in_one_of_its_own_one_event_after_the_other() -> None:
    emitter, heard = Emitter(SOURCE), []

    async def listener(number: int) -> None:
        heard.append(("begins", number))
        await asyncio.sleep(0)
        heard.append((current_event().source, number))

    emitter.on("event", listener)
    for number in range(2):
        assert emitter.emit("event", number)
    settle(emitter)
    assert heard == [("begins", 0), (SOURCE, 0), ("begins", 1), (SOURCE, 1)]


@pytest.mark.parametrize("name", ["answers", "raises"])
def test_what_it_returns_or_raises_is_the_answer(name: str) -> None:
    async def answers(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def raises(number: int) -> int:
        raise KeyError(number)

    def ask() -> tuple[Any, BaseException | None]:
        emitter = Emitter()
        emitter.on("answers", answers)
        emitter.on("raises", raises)
        return answer(emitter, name, 21)

    async def in_a_loop() -> Any:
        emitter = Emitter()
        emitter.on("answers", answers)
        emitter.on("raises", raises)
        return await asyncio.to_thread(answer, emitter, name, 21)

    for value, error in (ask(), asyncio.run(in_a_loop())):
        assert (value, repr(error)) == ((42, "None") if name == "answers" else (None, "KeyError(21)"))


def test_in_a_loop_it_runs_there_and_can_use_what_belongs_to_it() -> None:
    async def main() -> list[Any]:
        emitter, queue = Emitter(SOURCE), asyncio.Queue[Any]()

        async def listener(number: int) -> None:
            assert threading.current_thread() is threading.main_thread()
            await queue.put((current_event().source, number))

        assert emitter.on("event", listener) is listener
        for number in range(3):
            emitter.emit("event", number)
        got = [await asyncio.wait_for(queue.get(), T) for _ in range(3)]
        emitter.off("event", listener)
        assert not emitter.emit("event", 3)
        return got

    assert asyncio.run(main()) == [(SOURCE, 0), (SOURCE, 1), (SOURCE, 2)]


def ended_before(emitter: Emitter, listener: Callable[..., Any]) -> None:
    async def main() -> None:
        emitter.on("event", listener)

    asyncio.run(main())
    emitter.emit("event")


def ends_meanwhile(emitter: Emitter, listener: Callable[..., Any]) -> None:
    """Not by asyncio.run, which cancels what runs in a loop."""
    loop = asyncio.new_event_loop()
    begun = threading.Event()

    async def hangs() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def main() -> None:
        emitter.on("event", hangs)
        emitter.emit("event")
        await asyncio.to_thread(begun.wait, T)

    loop.run_until_complete(main())
    settle(emitter)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.mark.parametrize("how", [ended_before, ends_meanwhile])
def test_when_its_loop_has_ended_that_is_logged_and_the_others_go_on(
    how: Callable[..., None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coroutines, "LOOK_AGAIN", 0.05)

    async def listener() -> None:
        raise AssertionError("it cannot run")

    emitter, heard = Emitter(), threading.Event()
    with caplog.at_level(logging.ERROR, logger="relieve_py"):
        how(emitter, listener)
        emitter.off("event")
        emitter.on("event", heard.set)
        emitter.emit("event")
        assert heard.wait(T)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "does not run any more" in str(record.exc_info[1])
