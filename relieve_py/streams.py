"""Stream: the items of a generator in a child, with sync and async iteration and backpressure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from relieve_py import copies, locks
from relieve_py.answers import Encoded, complete
from relieve_py.errors import CallCancelled, NotRunning
from relieve_py.loops import Waiter
from relieve_py.reading import Reading
from relieve_py.reducing import Streamed
from relieve_py.supervisor import shared, stand_aside
from relieve_py.wire import STREAM_BYTES, STREAM_WINDOW

if TYPE_CHECKING:
    from relieve_py.calls import Call


class Items:
    """What has come of a stream, apart from the reader's handle on it, so that a reader who leaves is noticed."""

    def __init__(self) -> None:
        self.begun = False  # an item has come, so that trying again would repeat it
        self.changed = locks.Condition(locks.new())  # owner: whoever touches the fields below
        self._items: deque[Encoded] = deque()
        self._ended = self._closed = False
        self._error: BaseException | Encoded | None = None
        self._taken = 0  # items that the child does not know of
        self._held = self._taken_bytes = 0  # the size of those that are here, and of those it does not know of
        self._wakers: list[Callable[[], object]] = []
        self._made_in = copies.here

    def _disown(self) -> None:
        """In a forked copy of the process: what has come is there, and nothing more will come."""
        self._made_in = copies.here
        self.changed = locks.Condition(locks.new())
        self._wakers.clear()
        if not self._ended:
            self._ended = True
            self._error = NotRunning("this stream belongs to the process that forked this one")

    def item(self, item: Encoded) -> bool:
        """One more item came; False when there is no room for it, so that the child must not have sent it."""
        with self.changed:
            self.begun = True
            if len(self._items) >= STREAM_WINDOW or self._held >= STREAM_BYTES:
                return False
            if not self._ended:
                self._items.append(item)
                self._held += len(item.payload)
        self._wake()
        return True

    def settle(self, value: Any) -> bool:
        """No more items come; False when that was known."""
        return self._end(value if isinstance(value, Encoded) and value.is_error else None)

    def fail(self, error: BaseException) -> bool:
        """No more items come, because of that error; False when the stream had ended."""
        return self._end(error)

    def done(self) -> bool:
        """True when no more items come from the child; some may still be waiting here."""
        if self._made_in is not copies.here:
            self._disown()
        return self._ended

    def cancelled(self) -> bool:
        """True when the reader closed it."""
        return self._closed

    def settled(self) -> bool:
        """True when a reader need not wait."""
        return bool(self._items) or self.done()

    def close(self) -> bool:
        """The reader wants no more; False when the stream had ended."""
        self.done()
        with self.changed:
            self._items.clear()
            self._held = 0
            self._closed = True
        return self._end(CallCancelled("the stream was closed"))

    def when_settled(self, waker: Callable[[], object]) -> None:
        """Call ``waker`` when a reader need not wait, on any thread; it must be quick and belong to the library."""
        self.done()
        with self.changed:
            if not self.settled():
                self._wakers.append(waker)
                return
        waker()

    def take(self) -> tuple[Encoded | None, int]:
        """The next item, or None at the end; and how many more the child may send for those taken."""
        self.done()
        with self.changed:
            if not self._items:
                return None, 0
            item = self._items.popleft()
            size = len(item.payload)
            self._held -= size
            self._taken_bytes += size
            self._taken += 1
            grant = 0
            if (self._taken >= STREAM_WINDOW // 2 or self._taken_bytes >= STREAM_BYTES // 2) and not self._ended:
                grant, self._taken, self._taken_bytes = self._taken, 0, 0
        return item, grant

    def take_error(self) -> BaseException | Encoded | None:
        """What ended it, once."""
        with self.changed:
            error, self._error = self._error, None
        return error

    def _end(self, error: BaseException | Encoded | None) -> bool:
        with self.changed:
            if self._ended:
                return False
            self._ended = True
            self._error = error
        self._wake()
        return True

    def _wake(self) -> None:
        with self.changed:
            wakers, self._wakers = self._wakers, []
            self.changed.notify_all()
        for waker in wakers:
            waker()


class Stream(Reading, Streamed):
    """The items of a generator in the child, with sync and async iteration; leaving it early cancels the call.

    The child sends ahead at most STREAM_WINDOW items or STREAM_BYTES, and goes on as they are taken: memory is bounded.
    """

    def __init__(self, call: Call, items: Items) -> None:
        self._call = call
        self._items = items

    @property
    def id(self) -> int:
        """The call's id, unique in this process."""
        return self._call.id

    def __next__(self) -> Any:
        items = self._items
        if not items.settled():
            stand_aside()
            call = self._call
            if call.carrier is not None and call.number:
                call.carrier.read_for(call, call.reply.settled, None)
            shared().help_until(items.settled, None)
            locks.wait_for(items.changed, items.settled)
        return self._take(StopIteration)

    async def __anext__(self) -> Any:
        if not self._items.settled():
            waiter = Waiter()
            self._items.when_settled(waiter.wake)
            if self._call.carrier is not None and self._call.number:
                self._call.carrier.attend(self._call)
            await waiter.future
        return self._take(StopAsyncIteration)

    def _take(self, stop: type[Exception]) -> Any:
        item, grant = self._items.take()
        if item is None:
            error = self._items.take_error()
            if isinstance(error, Encoded):
                error = error.open()[1]
            if error is None or isinstance(error, CallCancelled):
                raise stop
            complete(error)
            if isinstance(error, (StopIteration, StopAsyncIteration)):  # raised as it is, it would look like the end
                raise RuntimeError(f"the streaming function raised {type(error).__name__}") from error
            raise error
        if grant and self._call.carrier is not None:
            self._call.carrier.credit(self._call, grant)
        value, failure = item.open()
        if failure is not None:
            self.close()
            raise failure
        return value

    def close(self) -> None:
        """Take no more items; the generator in the child is closed. Closing twice is fine."""
        _close(self._items, self._call)

    def __del__(self) -> None:
        items: Items | None = getattr(self, "_items", None)  # None: what a signal handler raised was first
        if items is not None and not items.done():
            # On the I/O thread: the collector may run this in the middle of a lock that closing needs.
            shared().post_from_finalizer(_close, items, self._call)


def _close(items: Items, call: Call) -> None:
    if items.close() and call.carrier is not None:
        call.carrier.cancel(call)
