"""``map``: a call per item, as an iterator with bounded memory, sync and async."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from types import GeneratorType
from typing import Any

from relieve_py import copies, locks
from relieve_py.itemwise import Refused, result_of
from relieve_py.reading import Reading
from relieve_py.replies import Reply, Waiter
from relieve_py.serializers import Streamed
from relieve_py.supervisor import shared

AHEAD = 2
"""Calls in flight for each that can run: the next must be at hand when one ends. More: more memory, no more speed."""

_END: Any = object()


def _cancel(flight: deque[Reply | Refused]) -> None:
    while flight:
        reply = flight.popleft()
        if isinstance(reply, Reply):
            reply.mark_seen()
            reply.cancel()


class _Landing:
    """The settled replies of an unordered map. Replies refer to this and not to the map, so that a reader who leaves is
    noticed."""

    def __init__(self) -> None:
        self._changed = threading.Condition(locks.new())  # owner: whoever touches the fields below
        self.landed: deque[Reply | Refused] = deque()
        self._wakers: list[Callable[[], object]] = []

    def expect(self, reply: Reply | Refused) -> None:
        """It lands when it is settled."""
        if isinstance(reply, Reply):
            reply.when_settled(lambda: self._land(reply))
        else:
            self._land(reply)

    def _land(self, reply: Reply | Refused) -> None:
        with self._changed:
            self.landed.append(reply)
            self._changed.notify()
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def wait(self) -> Reply | Refused:
        """The next that has landed."""
        shared().help_until(lambda: bool(self.landed), None)
        locks.wait_for(self._changed, lambda: self.landed)  # this thread alone takes them
        return self.landed.popleft()

    def when_landed(self, wake: Callable[[], object]) -> None:
        """Call ``wake`` when there is one."""
        with self._changed:
            if not self.landed:
                self._wakers.append(wake)
                return
        wake()


class Map(Reading, Streamed):
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
        self._made_in = copies.here
        self._flight: deque[Reply | Refused] = deque()  # in the order of the items
        self._landing = _Landing()
        self._ended: BaseException | Any | None = None  # _END, or the error of the source, once it is used up

    # -- sync --------------------------------------------------------------------------------------

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
        landed = self._landing.wait()
        self._flight.remove(landed)
        return self._result(landed)

    # -- async -------------------------------------------------------------------------------------

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
            while not self._landing.landed:
                waiter = Waiter()
                self._landing.when_landed(waiter.wake)
                await waiter.future
            landed = self._landing.landed.popleft()
            self._flight.remove(landed)
        else:
            landed = self._flight[0]
            if isinstance(landed, Reply) and not landed.done():
                await self._settles(landed)
            self._flight.popleft()
        return self._result(landed)

    @staticmethod
    async def _settles(reply: Reply) -> None:
        waiter = Waiter()
        reply.when_settled(waiter.wake)
        await waiter.future

    # -- both --------------------------------------------------------------------------------------

    def _limit(self) -> int:
        return max(1, self._width()) * AHEAD

    def _take_off(self, item: Any) -> None:
        """Submit one item; what cannot be submitted is that item's error, at its place."""
        reply: Reply | Refused
        try:
            reply = self._submit(item)
        except Exception as error:
            reply = Refused(error)
        self._flight.append(reply)
        if self._unordered:
            self._landing.expect(reply)

    def _result(self, reply: Reply | Refused) -> Any:
        return result_of(reply, self._return_exceptions, "map")

    def _last(self, stop: type[Exception]) -> BaseException:
        error, self._ended = self._ended, _END
        return error if isinstance(error, BaseException) else stop()

    def close(self) -> None:
        """Take no more items, and cancel the calls in flight."""
        self._ended = _END
        _cancel(self._flight)
        if isinstance(self._source, GeneratorType):  # a file or the like is the user's to close
            self._source.close()

    def __del__(self) -> None:
        flight = getattr(self, "_flight", None)
        if flight and self._made_in is copies.here:
            # On the I/O thread: the collector may run this in the middle of a lock that cancelling needs.
            shared().post_from_finalizer(_cancel, flight)
