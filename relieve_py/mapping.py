"""``map``: a call per item, as an iterator with bounded memory, sync and async."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from relieve_py.errors import CallCancelled
from relieve_py.replies import Reply

AHEAD = 2
"""Calls in flight for each that can run: the next must be at hand when one ends. More: more memory, no more speed."""

_END: Any = object()


class _Refused:
    """Stands in the place of an item that could not be submitted."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Map(Iterator[Any], AsyncIterator[Any]):
    """The results of a ``map``. Leaving it early, or ``close()``, cancels the calls that are in flight."""

    def __init__(
        self,
        submit: Callable[[Any], Reply],
        items: Iterable[Any] | AsyncIterable[Any],
        width: Callable[[], int],
        unordered: bool,
        return_exceptions: bool,
    ) -> None:
        self._submit = submit
        self._source: Any
        if isinstance(items, AsyncIterable):
            self._source, self._is_async = items.__aiter__(), True
        else:
            self._source, self._is_async = iter(items), False
        self._width = width
        self._unordered = unordered
        self._return_exceptions = return_exceptions
        self._flight: deque[Reply | _Refused] = deque()  # in the order of the items
        self._landed: deque[Reply | _Refused] = deque()  # unordered: those that are settled
        self._landing = threading.Condition(threading.Lock())  # owner: whoever touches _landed
        self._wakers: list[Callable[[], object]] = []
        self._ended: BaseException | Any | None = None  # _END, or the error of the source, once it is used up

    # -- sync --------------------------------------------------------------------------------------

    def __iter__(self) -> Map:
        return self

    def __next__(self) -> Any:
        if self._is_async:
            raise TypeError("the items come from an async iterable: use 'async for'")
        while self._ended is None and len(self._flight) < self._limit():
            try:
                item = next(self._source)
            except StopIteration:
                self._ended = _END
            except BaseException as error:
                self._ended = error
            else:
                self._take_off(item)
        if not self._flight:
            raise self._last(StopIteration)
        if not self._unordered:
            return self._result(self._flight.popleft())
        with self._landing:
            self._landing.wait_for(lambda: bool(self._landed))
            landed = self._landed.popleft()
        self._flight.remove(landed)
        return self._result(landed)

    # -- async -------------------------------------------------------------------------------------

    def __aiter__(self) -> Map:
        return self

    async def __anext__(self) -> Any:
        while self._ended is None and len(self._flight) < self._limit():
            try:
                item = await anext(self._source) if self._is_async else next(self._source)
            except (StopIteration, StopAsyncIteration):
                self._ended = _END
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self._ended = error
            else:
                self._take_off(item)
        if not self._flight:
            raise self._last(StopAsyncIteration)
        if self._unordered:
            while not self._landed:
                await self._one_lands()
            landed = self._landed.popleft()
            self._flight.remove(landed)
        else:
            landed = self._flight[0]
            if isinstance(landed, Reply) and not landed.done():
                await self._settles(landed)
            self._flight.popleft()
        return self._result(landed)

    async def _one_lands(self) -> None:
        with self._landing:
            if self._landed:
                return
            waiter, wake = _waiter()
            self._wakers.append(wake)
        await waiter

    @staticmethod
    async def _settles(reply: Reply) -> None:
        waiter, wake = _waiter()
        reply.when_settled(wake)
        await waiter

    # -- both --------------------------------------------------------------------------------------

    def _limit(self) -> int:
        return max(1, self._width()) * AHEAD

    def _take_off(self, item: Any) -> None:
        """Submit one item; what cannot be submitted is that item's error, at its place."""
        reply: Reply | _Refused
        try:
            reply = self._submit(item)
        except Exception as error:
            reply = _Refused(error)
        self._flight.append(reply)
        if self._unordered:
            if isinstance(reply, _Refused):
                self._land(reply)
            else:
                reply.when_settled(lambda: self._land(reply))

    def _land(self, reply: Reply | _Refused) -> None:
        with self._landing:
            self._landed.append(reply)
            self._landing.notify()
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def _result(self, reply: Reply | _Refused) -> Any:
        try:
            if isinstance(reply, _Refused):
                raise reply.error
            return reply.result()
        except (Exception, CallCancelled) as error:
            if self._return_exceptions:
                return error
            raise

    def _last(self, stop: type[Exception]) -> BaseException:
        error, self._ended = self._ended, _END
        return error if isinstance(error, BaseException) else stop()

    def close(self) -> None:
        """Take no more items, and cancel the calls in flight."""
        self._ended = _END
        while self._flight:
            reply = self._flight.popleft()
            if isinstance(reply, Reply):
                reply.mark_seen()
                reply.cancel()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Map:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_flight", None):
            self.close()


def _waiter() -> tuple[asyncio.Future[None], Callable[[], object]]:
    """A future of the running loop, and what settles it from any thread."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not waiter.done():
            waiter.set_result(None)

    return waiter, lambda: loop.call_soon_threadsafe(settle)
