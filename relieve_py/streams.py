"""Stream: the items of a generator in a child, with sync and async iteration and backpressure."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from relieve_py.answers import Encoded
from relieve_py.errors import CallCancelled
from relieve_py.replies import _release
from relieve_py.wire import STREAM_WINDOW

if TYPE_CHECKING:
    from relieve_py.calls import Call


class Stream(Iterator[Any], AsyncIterator[Any]):
    """The items of a generator in the child, with sync and async iteration; leaving it early cancels the call.

    The child sends ahead at most STREAM_WINDOW items, and goes on as they are taken: memory stays constant.
    """

    def __init__(self, call: Call | None) -> None:
        self._call = call
        self.begun = False  # an item has come, so that trying again would repeat it
        self._changed = threading.Condition(threading.Lock())  # owner: whoever touches the fields below
        self._items: deque[Encoded] = deque()
        self._ended = False
        self._error: BaseException | Encoded | None = None
        self._taken = 0
        self._wakers: list[Callable[[], object]] = []

    # -- for the library ---------------------------------------------------------------------------

    def item(self, item: Encoded) -> None:
        """One more item came."""
        with self._changed:
            self.begun = True
            if not self._ended:
                self._items.append(item)
        self._wake()

    def settle(self, value: Any) -> bool:
        """No more items come; False when that was known."""
        return self._end(value if isinstance(value, Encoded) and value.is_error else None)

    def fail(self, error: BaseException) -> bool:
        """No more items come, because of that error; False when the stream had ended."""
        return self._end(error)

    def done(self) -> bool:
        """True when no more items come from the child; some may still be waiting here."""
        return self._ended

    def cancelled(self) -> bool:
        """True when the reader closed it."""
        return isinstance(self._error, CallCancelled)

    def settled(self) -> bool:
        """True when a reader need not wait."""
        return bool(self._items) or self._ended

    def _end(self, error: BaseException | Encoded | None) -> bool:
        with self._changed:
            if self._ended:
                return False
            self._ended = True
            self._error = error
        self._wake()
        return True

    def _wake(self) -> None:
        with self._changed:
            wakers, self._wakers = self._wakers, []
            self._changed.notify_all()
        for waker in wakers:
            waker()

    def when_settled(self, waker: Callable[[], object]) -> None:
        """Call ``waker`` when a reader need not wait, on any thread; it must be quick and belong to the library."""
        with self._changed:
            if not self.settled():
                self._wakers.append(waker)
                return
        waker()

    # -- for the reader ----------------------------------------------------------------------------

    @property
    def id(self) -> int | None:
        """The call's id, unique in this process."""
        return self._call.id if self._call is not None else None

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        if not self.settled():
            call = self._call
            if call is not None and call.carrier is not None and call.number:
                call.carrier.read_for(call, None)
            with self._changed:
                self._changed.wait_for(self.settled)
        if not self._items:
            self._raise_error()
            raise StopIteration
        return self._take()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        if not self.settled():
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()
            self.when_settled(lambda: loop.call_soon_threadsafe(_release, waiter))
            await waiter
        if not self._items:
            self._raise_error()
            raise StopAsyncIteration
        return self._take()

    def _take(self) -> Any:
        with self._changed:
            item = self._items.popleft()
            self._taken += 1
            grant = self._taken if self._taken >= STREAM_WINDOW // 2 and not self._ended else 0
            self._taken -= grant
        call = self._call
        if grant and call is not None and call.carrier is not None:
            call.carrier.credit(call, grant)
        value, error = item.open()
        if error is not None:
            self.close()
            raise error
        return value

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if isinstance(error, Encoded):
            error = error.open()[1]
        if error is not None and not isinstance(error, CallCancelled):
            raise error

    def close(self) -> None:
        """Take no more items; the generator in the child is closed. Closing twice is fine."""
        call = self._call
        with self._changed:
            self._items.clear()
        if self._end(CallCancelled("the stream was closed")) and call is not None and call.carrier is not None:
            call.carrier.cancel(call)

    cancel = close

    async def aclose(self) -> None:
        """Like ``close``."""
        self.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._ended:
            self.close()
