"""``pipe``: the children as a stream, into which a source flows at one end, and results come out at the other."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any

from relieve_py import copies, locks
from relieve_py.errors import CallCancelled, NotRunning
from relieve_py.itemwise import Refused, result_of
from relieve_py.loops import Waiter
from relieve_py.pumping import Pump
from relieve_py.reading import Reading
from relieve_py.reducing import Streamed
from relieve_py.replies import Reply
from relieve_py.supervisor import shared

AHEAD = 2
"""Items for each call that can run which a pipe holds, each until its result is read: the next must be at hand when a
call ends. More: more memory; less: a slow reader, or one slow call, holds up the others sooner."""


class Flow(Pump):
    """What is in a pipe, apart from the reader's handle on it, so that a reader who leaves is noticed."""

    def __init__(self, submit: Callable[[Any], Reply], width: Callable[[], int], unordered: bool) -> None:
        super().__init__()
        self._submit = submit
        self._width = width
        self._unordered = unordered
        self._changed = locks.Condition(self.lock)
        self._held = 0  # items that came in and whose results were not read
        self._flight: set[Reply] = set()  # of unordered results, those that have not come
        self._out: deque[Reply | Refused] = deque()  # for the reader, in the order in which it gets them
        self._wakers: list[Callable[[], object]] = []
        self._error: BaseException | None = None

    # -- where the source flows in -----------------------------------------------------------------

    def has_room(self) -> bool:
        """Under the lock: another item may come in."""
        return self._held < max(1, self._width()) * AHEAD

    def give(self, item: Any) -> None:
        """Submit one item; what cannot be submitted is that item's error, at its place."""
        reply: Reply | Refused
        try:
            reply = self._submit(item)
        except Exception as error:
            reply = Refused(error)
        flies = self._unordered and isinstance(reply, Reply)
        with self.lock:
            self._held += 1
            if flies:
                self._flight.add(reply)  # type: ignore[arg-type] # as it is looked at above
        if flies:
            reply.when_settled(lambda: self._land(reply))  # type: ignore[union-attr]
        else:
            self._land(reply)
        if self.unwanted:
            self._cancel()

    def finish(self, error: BaseException | None) -> None:
        """Nothing more comes in; after the results the reader gets the error."""
        with self.lock:
            if self.ended:
                return
            self.ended, self._error = True, error
        self._wake()

    def _land(self, reply: Reply | Refused) -> None:
        with self.lock:
            self._flight.discard(reply)
            self._out.append(reply)
        self._wake()

    # -- where results come out --------------------------------------------------------------------

    def over(self) -> bool:
        """Nothing more comes out."""
        return self.unwanted or (self.ended and not self._held)

    def readable(self) -> bool:
        """A reader need not wait for anything to come out."""
        return bool(self._out) or self.over()

    def first(self) -> Reply | Refused | None:
        """What comes out next; ordered, it may not be settled yet. None at the end."""
        with self.lock:
            return self._out[0] if self._out and not self.unwanted else None

    def take(self, first: Reply | Refused) -> None:
        """It is read, so there is room for another item."""
        with self.lock, contextlib.suppress(ValueError):  # the pipe was closed meanwhile
            self._out.remove(first)
            self._held -= 1
        self.go_on()

    def take_error(self) -> BaseException | None:
        """What ended the source, once."""
        with self.lock:
            error, self._error = self._error, None
        return error

    def wait(self) -> None:
        """Until it is readable."""
        shared().help_until(self.readable, None)
        locks.wait_for(self._changed, self.readable)

    def when_readable(self, waker: Callable[[], object]) -> None:
        """Call ``waker`` when it is."""
        with self.lock:
            if not self.readable():
                self._wakers.append(waker)
                return
        waker()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
            wakers, self._wakers = self._wakers, []
        for waker in wakers:
            waker()

    def close(self) -> None:
        """The reader wants no more: the source is closed, and the calls are cancelled."""
        with self.lock:
            self.unwanted, self._error = True, None
        self.go_on()
        self._cancel()
        self._wake()

    def _cancel(self) -> None:
        with self.lock:
            left = [*self._flight, *self._out]
            self._flight.clear()
            self._out.clear()
            self._held = 0
        for reply in left:
            if isinstance(reply, Reply):
                reply.mark_seen()
                reply.cancel()


class Pipe(Reading, Streamed):
    """The results of a ``pipe``. Leaving it early, or ``close()``, closes the source and cancels the calls."""

    def __init__(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        submit: Callable[[Any], Reply],
        width: Callable[[], int],
        unordered: bool,
        return_exceptions: bool,
    ) -> None:
        if not isinstance(source, (Iterable, AsyncIterable)):
            raise TypeError(f"a pipe is fed by an iterable or an async iterable, not by {source!r}")
        self._return_exceptions = return_exceptions
        self._made_in = copies.here
        self._flow = Flow(submit, width, unordered)
        self._flow.draw_from(source)
        self._flow.go_on()

    def _mine(self) -> Flow:
        """What is in it. Raises NotRunning in a forked copy of the process, where nothing flows."""
        if self._made_in is not copies.here:
            raise NotRunning("this pipe belongs to the process that forked this one")
        return self._flow

    def __next__(self) -> Any:
        flow = self._mine()
        while (first := flow.first()) is None:
            if flow.over():
                raise flow.take_error() or StopIteration
            flow.wait()
        if isinstance(first, Reply):
            with contextlib.suppress(CallCancelled):
                first.exception()
        return self._result(first)

    async def __anext__(self) -> Any:
        flow = self._mine()
        while (first := flow.first()) is None:
            if flow.over():
                raise flow.take_error() or StopAsyncIteration
            waiter = Waiter()
            flow.when_readable(waiter.wake)
            await waiter.future
        if isinstance(first, Reply) and not first.done():
            waiter = Waiter()
            first.when_settled(waiter.wake)
            await waiter.future
        return self._result(first)

    def _result(self, first: Reply | Refused) -> Any:
        self._flow.take(first)
        return result_of(first, self._return_exceptions, "pipe")

    def close(self) -> None:
        """Read no more: the source is closed, if it is a generator, and the calls are cancelled."""
        if self._made_in is copies.here:
            self._flow.close()

    def __del__(self) -> None:
        flow = getattr(self, "_flow", None)
        if flow is not None and self._made_in is copies.here and not flow.unwanted:
            # On the I/O thread: the collector may run this in the middle of a lock that closing needs.
            shared().post(flow.close)
