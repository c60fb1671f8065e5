"""``map``: a call per item, as an iterator with bounded memory, sync and async."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sized
from operator import length_hint
from types import GeneratorType
from typing import Any, NamedTuple, Self

from relieve_py import copies, locks
from relieve_py.chunks import Pace, Part
from relieve_py.errors import CallCancelled
from relieve_py.interruptions import raised_by_handler
from relieve_py.itemwise import Refused, result_of
from relieve_py.loops import Waiter
from relieve_py.reading import Reading
from relieve_py.reducing import Streamed
from relieve_py.replies import Reply
from relieve_py.supervisor import shared

AHEAD = 2
"""Calls in flight for each that can run: the next must be at hand when one ends. More: more memory, no more speed."""

SLOW = 0.001
"""Seconds after which a source has given enough items for now: those that it gave can run meanwhile. Less: smaller
chunks; more: the first results of a slow source come later."""

_END: Any = object()
_AT_HAND: frozenset[type] = frozenset(map(type, map(iter, ([], (), range(0), range(1 << 70), {}, b"", ""))))
"""Iterators that cost nothing to ask."""


class Lot(NamedTuple):
    """Items that are under way together."""

    reply: Reply | Refused
    items: int
    """How many the Reply of a chunk stands for; 0 for one that gives the value of a single item."""


def _cancel(flight: deque[Lot]) -> None:
    while flight:
        reply, items = flight.popleft()
        if not isinstance(reply, Reply):
            continue
        reply.mark_seen()
        if not reply.cancel() and items and isinstance(part := reply.as_it_came(), Part):
            flight.extend(Lot(*follower) for follower in part.followers)


class _Landing:
    """The settled replies of an unordered map. Replies refer to this and not to the map, so that a reader who leaves is
    noticed."""

    def __init__(self) -> None:
        self._changed = locks.Condition(locks.new())  # owner: whoever touches the fields below
        self.landed: deque[Lot] = deque()
        self._wakers: list[Callable[[], object]] = []

    def expect(self, lot: Lot) -> None:
        """It lands when it is settled."""
        if isinstance(lot.reply, Reply):
            lot.reply.when_settled(lambda: self._land(lot))
        else:
            self._land(lot)

    def _land(self, lot: Lot) -> None:
        with self._changed:
            self.landed.append(lot)
            self._changed.notify()
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def wait(self) -> Lot:
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


class _Loop(itertools.chain[Any], Streamed):
    """What a ``for`` reads a map by: plain results that are at hand come without a line of Python for each.

    What is at hand stays the map's own, so it makes no difference by which of these, or by ``next()``, it is read. When
    this raises an error of an item, more can be read.
    """

    close: Callable[[], None]
    """That of the map, for a generator that reads from this and is closed."""


class _OneByOne:
    """The part of a loop in which a result has to be waited for, or looked at. It ends when that is not so."""

    def __init__(self, results: Map) -> None:
        self._results = results

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        results = self._results
        if results._at_hand:
            result = results._at_hand.popleft()
            return results._given(result) if type(result) is Refused else result
        if results._has_plain():
            raise StopIteration
        return next(results)


class Map(Reading, Streamed):
    """The results of a ``map``. Leaving it early, or ``close()``, cancels the calls that are in flight."""

    def __init__(
        self,
        submit: Callable[[Any], Reply],
        items: Iterable[Any] | AsyncIterable[Any],
        width: Callable[[], int],
        unordered: bool,
        return_exceptions: bool,
        submit_chunk: Callable[[list[Any]], Reply] | None = None,
    ) -> None:
        self._submit = submit
        self._submit_chunk = submit_chunk  # None: each item travels by itself
        self._source: Any
        if isinstance(items, AsyncIterable):
            self._source, self._is_async = items.__aiter__(), True
        else:
            self._source, self._is_async = iter(items), False
        self._pace = Pace(len(items) if isinstance(items, Sized) else None, width)
        self._width = width
        self._unordered = unordered
        self._return_exceptions = return_exceptions
        self._made_in = copies.here
        self._flight: deque[Lot] = deque()  # in the order of the items
        # Results that came together. One of the two is empty.
        self._plain: Iterator[Any] = iter([])
        self._at_hand: deque[Any] = deque()
        self._read = 0  # results that the reader has, when there is none at hand
        self._landing = _Landing()
        self._ended: BaseException | Any | None = None  # _END, or the error of the source, once it is used up

    # -- sync --------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        loop = _Loop.from_iterable(iter(self._next_part, None))
        assert isinstance(loop, _Loop)
        loop.close = self.close
        return loop

    def _next_part(self) -> Iterator[Any] | None:
        """What a loop reads next; None at the end."""
        if self._has_plain():
            return self._plain
        if self._ended is _END and not self._at_hand and not self._flight:
            return None
        return _OneByOne(self)

    def _has_plain(self) -> bool:
        """Whether the next results are at hand, and can be given as they are."""
        return length_hint(self._plain) > 0

    def __next__(self) -> Any:
        if not self._at_hand:
            if not self._has_plain():
                self._have_more_at_hand()
            for result in self._plain:
                return result
        result = self._at_hand.popleft()
        return self._given(result) if type(result) is Refused else result

    def _have_more_at_hand(self) -> None:
        """Take items and wait for results. Raises StopIteration, or the error of the source, when there are no more."""
        if self._is_async:
            raise TypeError("the items come from an async iterable: use 'async for'")
        try:
            while self._nothing_at_hand():
                while self._ended is None and len(self._flight) < self._limit():
                    self._take_off(self._next_items())
                if not self._flight:
                    raise self._last(StopIteration)
                if self._unordered:
                    lot = self._landing.wait()
                    self._flight.remove(lot)
                else:
                    lot = self._flight.popleft()
                self._unload(lot)
        except BaseException as error:
            self._end_if_interrupted(error)
            raise

    def _end_if_interrupted(self, error: BaseException) -> None:
        """What a signal handler raises, as Ctrl-C does, ends this like a generator: items may be lost in the middle."""
        if isinstance(error, KeyboardInterrupt) or raised_by_handler(error):
            self.close()

    # -- async -------------------------------------------------------------------------------------

    async def __anext__(self) -> Any:
        try:
            while self._nothing_at_hand():
                while self._ended is None and len(self._flight) < self._limit():
                    self._take_off(await self._next_item() if self._is_async else self._next_items())
                if not self._flight:
                    raise self._last(StopAsyncIteration)
                self._unload(await self._next_lot())
        except BaseException as error:
            self._end_if_interrupted(error)
            raise
        for result in self._plain:
            return result
        return self._given(self._at_hand.popleft())

    async def _next_item(self) -> list[Any]:
        """The next item of an async source, which is not asked for more than one at a time: it may take long."""
        try:
            return [await anext(self._source)]
        except StopAsyncIteration:
            self._ended = _END
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._ended = error
        return []

    async def _next_lot(self) -> Lot:
        if self._unordered:
            while not self._landing.landed:
                waiter = Waiter()
                self._landing.when_landed(waiter.wake)
                await waiter.future
            lot = self._landing.landed.popleft()
            self._flight.remove(lot)
            return lot
        reply = self._flight[0].reply
        if isinstance(reply, Reply) and not reply.done():
            waiter = Waiter()
            reply.when_settled(waiter.wake)
            await waiter.future
        return self._flight.popleft()

    # -- both --------------------------------------------------------------------------------------

    def _nothing_at_hand(self) -> bool:
        return not (self._at_hand or self._has_plain())

    def _limit(self) -> int:
        return max(1, self._width()) * AHEAD

    def _next_items(self) -> list[Any]:
        """Of a sync source: as many as are to travel together, unless it is slow; none at its end."""
        size = self._pace.next_size(self._read) if self._submit_chunk is not None else 1
        if size > 1 and type(self._source) in _AT_HAND:
            items = list(itertools.islice(self._source, size))
            self._ended = None if items else _END
            return items
        items = []
        late = time.monotonic() + SLOW if size > 1 else 0.0
        try:
            while len(items) < size:
                items.append(next(self._source))
                if time.monotonic() >= late:
                    break
        except StopIteration:
            self._ended = _END
        except BaseException as error:
            if raised_by_handler(error):
                raise
            self._ended = error
        return items

    def _take_off(self, items: list[Any]) -> None:
        """Submit these items; what cannot be submitted is that item's error, at its place."""
        if items and self._submit_chunk is not None:
            try:
                reply = self._submit_chunk(items)
            except Exception as error:  # one of them cannot travel with others, or not at all
                if raised_by_handler(error):
                    raise
                self._pace.sent(len(items))
            else:
                self._pace.sent(len(items), reply.nbytes)
                self._expect(Lot(reply, len(items)))
                return
        for item in items:
            lot: Reply | Refused
            try:
                lot = self._submit(item)
            except Exception as error:
                if raised_by_handler(error):
                    raise
                lot = Refused(error)
            self._expect(Lot(lot, 0))

    def _expect(self, lot: Lot) -> None:
        self._flight.append(lot)
        if self._unordered:
            self._landing.expect(lot)

    def _unload(self, lot: Lot) -> None:
        """Have at hand what came, and in flight what has to come instead."""
        reply, items = lot
        expected = items
        try:
            given = reply.result()
            if not items:
                self._read += 1
                self._at_hand.append(given)
                return
            expected -= sum(count for _, count in given.followers)
            self._go_on_with([Lot(*follower) for follower in given.followers])
            if given.ran[0]:
                self._pace.ran(*given.ran)
            found = given.open()
            self._read += len(found)
            if len(found) > 1 and given.is_plain:
                self._plain = iter(found)
            else:  # large ones, and others' objects, are let go of one by one
                self._at_hand.extend(found)
        except (Exception, CallCancelled) as error:
            if raised_by_handler(error):
                raise
            self._at_hand.extend([Refused(error)] * max(1, expected))

    def _go_on_with(self, lots: list[Lot]) -> None:
        """These have taken the place of one that has landed. One of no items is that of a chunk whose items have all
        gone elsewhere."""
        lots = [lot for lot in lots if lot.items]
        if self._unordered:
            for lot in lots:
                self._expect(lot)
        else:
            self._flight.extendleft(reversed(lots))

    def _given(self, result: Any) -> Any:
        return result_of(result, self._return_exceptions, "map") if type(result) is Refused else result

    def _last(self, stop: type[Exception]) -> BaseException:
        error, self._ended = self._ended, _END
        return error if isinstance(error, BaseException) else stop()

    def close(self) -> None:
        """Take no more items, and cancel the calls in flight."""
        self._ended = _END
        self._at_hand.clear()
        for _ in self._plain:
            pass
        _cancel(self._flight)
        if isinstance(self._source, GeneratorType):  # a file or the like is the user's to close
            self._source.close()

    def __del__(self) -> None:
        flight = getattr(self, "_flight", None)
        if flight and self._made_in is copies.here:
            # On the I/O thread: the collector may run this in the middle of a lock that cancelling needs.
            shared().post_from_finalizer(_cancel, flight)
