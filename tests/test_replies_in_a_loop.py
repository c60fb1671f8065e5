"""Reply under asyncio: awaited, cancelled, shielded, wrapped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from replying import FakeCarrier, later, make_call, make_reply

from relieve_py.errors import CallCancelled


def test_it_can_be_awaited_before_and_after_it_settles_and_by_many() -> None:
    async def main() -> list[Any]:
        reply = make_reply()

        async def wait() -> Any:
            return await reply

        waiting = [asyncio.ensure_future(wait()) for _ in range(3)]
        await asyncio.sleep(0)
        other = later(reply.settle, 6)
        got = await asyncio.gather(*waiting)
        other.join()
        return [*got, await reply, await asyncio.wait_for(reply, 5)]

    assert asyncio.run(main()) == [6] * 5


def test_awaited_it_raises_its_error() -> None:
    async def main() -> None:
        reply = make_reply()
        reply.fail(KeyError("k"))
        with pytest.raises(KeyError):
            await reply
        cancelled = make_reply()
        cancelled.cancel()
        with pytest.raises(CallCancelled):
            await cancelled

    asyncio.run(main())


def test_a_cancelled_await_cancels_the_call() -> None:
    async def main() -> None:
        carrier = FakeCarrier()
        call = make_call(carrier=carrier)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call.reply, 0.01)  # type: ignore[arg-type]
        assert call.reply.cancelled()
        assert carrier.cancelled == [call]

    asyncio.run(main())


def test_a_shielded_call_goes_on() -> None:
    async def main() -> Any:
        reply = make_reply()
        waiting = asyncio.ensure_future(reply)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.01)
        assert not reply.done()
        reply.settle(3)
        return await waiting

    assert asyncio.run(main()) == 3


def test_wrap_future_works_both_ways() -> None:
    async def main() -> None:
        reply, failing, dropped = make_reply(), make_reply(), make_reply()
        wrapped = asyncio.wrap_future(reply)
        other = later(reply.settle, 8)
        assert await wrapped == 8
        other.join()
        failing.fail(KeyError("k"))
        with pytest.raises(KeyError):
            await asyncio.wrap_future(failing)
        asyncio.wrap_future(dropped).cancel()
        while not dropped.cancelled():
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_reply_that_settles_after_its_loop_is_closed_disturbs_nobody() -> None:
    reply = make_reply()
    loop = asyncio.new_event_loop()
    waiting = reply.__await__()
    loop.run_until_complete(first_step(waiting))
    loop.close()
    assert reply.settle(1)
    assert reply.result() == 1


async def first_step(waiting: Any) -> None:
    """As far as a coroutine gets in a loop that ends before the reply settles."""
    next(waiting)
