"""A Call and the caller's handles on it: Reply and Stream; and the table of a slot's open calls.

A call is queued, sent, begun, then done, failed, timed out or cancelled. Its Reply settles exactly once. The value
travels to the caller still encoded and is decoded by whoever asks for it first, so that code of the user that runs
while decoding never runs on the I/O thread.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, Protocol

import attrs

from relieve_py.errors import CallCancelled, CallTimeout, DecodeError, RemoteError, RemoteTraceback
from relieve_py.events import Strand
from relieve_py.lifecycle import RetryPolicy
from relieve_py.serializers import Payload, Serializer, decode, encode
from relieve_py.wire import STREAM_WINDOW, check_size

logger = logging.getLogger("relieve_py")

_ids = itertools.count(1)


class Mode(enum.IntEnum):
    """What the caller wants of a call; the value is the flags byte of its frame."""

    GET = 0
    """Its value."""
    CALL = 1
    """That it runs."""
    STREAM = 2
    """Its items."""
    EVENT = 3
    """No call: an event to the child, which is delivered."""


class Carrier(Protocol):
    """Where a call waits or runs: who can cancel it, and read the channel for it."""

    def cancel(self, call: Call) -> None:
        """The caller has no more use for the call."""
        ...

    def read_for(self, call: Call, deadline: float | None) -> None:
        """Read the call's channel until it settles; returns at once when that is not possible."""
        ...

    def credit(self, call: Call, items: int) -> None:
        """Let the call's stream send so many more items."""
        ...


class Home(Protocol):
    """Where a call returns to when it has to be sent again."""

    def resubmit(self, calls: list[Call], delay: float = 0.0) -> None:
        """Queue them again, in that order and before all others, after ``delay`` seconds."""
        ...

    def ended(self, call: Call, carrier: Carrier) -> None:
        """The call has left the slot it was on, however that went."""
        ...


NOTHING = Payload(b"")


@attrs.frozen(kw_only=True)
class CallOptions:
    """How a call is to be treated."""

    timeout: float | None = None
    """Seconds it may run, from when it is sent to the child; None: for ever."""
    retries: RetryPolicy = attrs.field(factory=RetryPolicy)
    """When it is tried again."""
    poison_after: int | None = 3
    """It is refused with PoisonCall once it has killed so many children; None: never."""
    key: Any = None
    """What a sticky strategy goes by."""


class Call:
    """One unit of remote work."""

    __slots__ = (
        "__weakref__",
        "carrier",
        "causes",
        "context",
        "created_at",
        "deaths",
        "home",
        "id",
        "key",
        "method",
        "mode",
        "number",
        "payload",
        "poison_after",
        "reply",
        "retries",
        "timeout",
    )

    def __init__(self, mode: Mode, method: str | None, options: CallOptions) -> None:
        self.id = next(_ids)
        self.mode = mode
        self.method = method
        self.payload = NOTHING
        self.created_at = time.time()
        self.timeout = options.timeout
        self.retries = options.retries
        self.poison_after = options.poison_after
        self.key = options.key
        self.number = 0  # on the channel it was sent on; 0 while it is with no child
        self.causes: list[BaseException] = []
        self.deaths = 0
        self.home: Home | None = None
        self.carrier: Carrier | None = None
        self.context: Any = None  # what its Worker keeps with it
        self.reply: Reply | Stream

    def encode(self, serializer: Serializer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the arguments, encoded. Raises EncodeError that names the part that cannot be sent, or the limit."""
        if self.mode is Mode.EVENT:
            payload = encode(serializer, (self.method, args), args=args)
        else:
            call = (self.method, self.id, self.created_at, args, kwargs)
            payload = encode(serializer, call, args=args, kwargs=kwargs)
        fds = payload.descriptors.fds if payload.descriptors is not None else ()
        check_size(len(payload), len(payload.buffers), len(fds))
        self.payload = payload

    def make_reply(self, strand: Strand) -> Reply | Stream:
        """The caller's handle, made once the call is sure to be submitted."""
        self.reply = Stream(self) if self.mode is Mode.STREAM else Reply(self, strand)
        return self.reply

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.mode.name.lower()} {self.method or 'default'}>"

    def timed_out(self, task: str) -> CallTimeout:
        """The error of this call when its time is over."""
        return CallTimeout(
            f"call {self.id} of {self.title} on task {task!r} took longer than {self.timeout:g} seconds",
            task=task,
            call_id=self.id,
            method=self.method,
            timeout=self.timeout,
        )

    @property
    def title(self) -> str:
        """What it calls, for messages."""
        return f"{self.method}()" if self.method is not None else "the default function"


class Encoded:
    """A value or an error as it came from the child."""

    __slots__ = ("is_error", "payload", "serializer", "what")

    def __init__(self, serializer: Serializer, payload: Payload, what: str, is_error: bool = False) -> None:
        self.serializer = serializer
        self.payload = payload
        self.what = what
        self.is_error = is_error

    def open(self) -> tuple[Any, BaseException | None]:
        """The value and None, or None and the error. User code may run in here."""
        try:
            value = decode(self.serializer, self.payload, self.what)
            if self.is_error:
                return None, remote_error(self.serializer, value)
        except DecodeError as error:
            return None, error
        return value, None


def remote_error(serializer: Serializer, told: Any) -> BaseException:
    """The exception that a child told of as ``(type, text, traceback, encoded exception or None)``.

    One that cannot be rebuilt, or that is no Exception (a KeyboardInterrupt of a child must not stop this process),
    becomes a RemoteError.
    """
    try:
        name, text, traceback, data = told
        plain = RemoteError(str(name), str(text), str(traceback))
    except (TypeError, ValueError) as error:
        raise DecodeError(f"the child told of an error in a way that is not understood: {error}") from error
    if data is None or not serializer.any_object:
        plain.__cause__ = RemoteTraceback(plain.traceback)
        return plain
    try:
        rebuilt = decode(serializer, Payload(data), "the exception")
    except DecodeError:
        rebuilt = None
    if not isinstance(rebuilt, Exception):
        rebuilt = plain
    rebuilt.__cause__ = RemoteTraceback(plain.traceback)
    return rebuilt


class Reply(Future[Any]):
    """The caller's handle on a call: a ``concurrent.futures.Future`` that can also be awaited.

    Done-callbacks run on the task's callback thread, never on the I/O thread. A Reply that fails and is never looked at
    is logged.
    """

    def __init__(self, call: Call | None, strand: Strand) -> None:
        super().__init__()
        self._call = call
        self._strand = strand
        self._opening = threading.RLock()  # owner: the thread that decodes what came
        self._seen = False
        self._wakers: list[Callable[[], object]] = []

    # -- for the library ---------------------------------------------------------------------------

    def settle(self, value: Any) -> bool:
        """Give it its value, or an Encoded; False when it is settled already."""
        try:
            self.set_result(value)
        except InvalidStateError:
            return False
        return True

    def fail(self, error: BaseException) -> bool:
        """Give it its error; False when it is settled already."""
        try:
            self.set_exception(error)
        except InvalidStateError:
            return False
        return True

    def settled(self) -> bool:
        """True when there is a value or an error, or it was cancelled."""
        return self.done()

    def mark_seen(self) -> None:
        """Somebody takes care of its error: do not log it."""
        self._seen = True

    def when_settled(self, waker: Callable[[], object]) -> None:
        """Call ``waker`` on whatever thread settles this; it must be quick and belong to the library."""
        with self._condition:
            if not self.done():
                self._wakers.append(waker)
                return
        waker()

    def _invoke_callbacks(self) -> None:
        with self._condition:
            wakers, self._wakers = self._wakers, []
        for waker in wakers:
            waker()
        if self._done_callbacks:
            self._strand.submit(super()._invoke_callbacks)

    # -- for the caller ----------------------------------------------------------------------------

    @property
    def id(self) -> int | None:
        """The call's id, unique in this process."""
        return self._call.id if self._call is not None else None

    def result(self, timeout: float | None = None) -> Any:
        """The value, waiting up to ``timeout`` seconds. Raises the call's error, CallCancelled, or TimeoutError."""
        if not self.done():
            timeout = self._read(timeout)
        self._seen = True
        try:
            value = super().result(timeout)
        except CancelledError:
            raise self._cancelled() from None
        if type(value) is Encoded:
            value = self._open()
        try:
            if self._exception is not None:
                raise self._exception
            return value
        finally:
            self = None  # type: ignore[assignment] # no cycle through the traceback, as in the base class

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error, or None when there is a value. Raises CallCancelled, or TimeoutError after ``timeout`` seconds."""
        if not self.done():
            timeout = self._read(timeout)
        self._seen = True
        try:
            error = super().exception(timeout)
        except CancelledError:
            raise self._cancelled() from None
        if error is None and type(self._result) is Encoded:
            self._open()
        return self._exception

    def cancel(self) -> bool:
        """Drop the call if it is queued, interrupt it if it runs. False when it is settled already."""
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()  # so that wait() and as_completed() count it as done
        call = self._call
        if call is not None and call.carrier is not None:
            call.carrier.cancel(call)
        return True

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call ``fn(reply)`` on the task's callback thread when this is settled."""
        self._seen = True
        with self._condition:
            if not self.done():
                self._done_callbacks.append(fn)
                return
        self._strand.submit(fn, self)

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.done():
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                try:
                    loop.call_soon_threadsafe(_release, waiter)
                except RuntimeError:  # the loop was closed: nobody waits any more
                    logger.debug("a reply settled after its event loop was closed")

            self.when_settled(wake)
            try:
                yield from waiter
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.result()

    def __del__(self) -> None:
        if self._seen or self._state != "FINISHED":
            return
        error = self._exception
        if error is None and type(self._result) is Encoded and self._result.is_error:
            error = self._result.open()[1]
        if error is not None:
            logger.error("a call failed and nobody asked for its result: %r", self._call, exc_info=error)

    def _read(self, timeout: float | None) -> float | None:
        """Read the channel on this thread while that is possible; return what is left of ``timeout``."""
        call = self._call
        if call is None or call.carrier is None or not call.number:
            return timeout
        if timeout is None:
            call.carrier.read_for(call, None)
            return None
        deadline = time.monotonic() + timeout
        call.carrier.read_for(call, deadline)
        return max(0.0, deadline - time.monotonic())

    def _open(self) -> Any:
        """Decode what came, once."""
        with self._opening:
            encoded = self._result
            if type(encoded) is Encoded:
                value, error = encoded.open()
                self._result, self._exception = value, error
            return self._result

    def _cancelled(self) -> CallCancelled:
        call = self._call
        if call is None:
            return CallCancelled("it was cancelled")
        return CallCancelled(f"call {call.id} of {call.title} was cancelled", call_id=call.id, method=call.method)


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


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


def gather(replies: list[Reply], strand: Strand, combine: Callable[[list[Reply]], Any]) -> Reply:
    """One Reply for several: when all are settled, it has what ``combine(replies)`` returns, or raises. That is
    library code."""
    together = Reply(None, strand)
    left = [len(replies)]
    lock = threading.Lock()  # owner: whoever counts one down

    def one_settled() -> None:
        with lock:
            left[0] -= 1
            if left[0] > 0:
                return
        for reply in replies:
            reply.mark_seen()
        try:
            together.settle(combine(replies))
        except Exception as error:
            together.fail(error)

    if not replies:
        left[0] = 1
        one_settled()
    for reply in replies:
        reply.when_settled(one_settled)
    return together


@attrs.frozen(kw_only=True)
class Outcome:
    """How a call ended on one task."""

    task: str
    """The task's name."""
    value: Any = None
    """What the call returned; None when it failed."""
    error: BaseException | None = None
    """What it raised; None when it did not."""

    def result(self) -> Any:
        """The value. Raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


class CallTable:
    """The open calls of one slot: those that wait for a child, and those that are with it. Pure; the slot locks."""

    def __init__(self, concurrency: int = 1) -> None:
        self.concurrency = concurrency
        self.waiting: deque[Call] = deque()
        self.sent: dict[int, Call | None] = {}  # None: abandoned, but the child may still run it
        self.running = 0  # calls in sent; events do not count
        self.finished = 0  # calls that this child has finished
        self._numbers = itertools.count(1)

    @property
    def load(self) -> int:
        """Calls waiting for and running on this slot."""
        return self.running + len(self.waiting)

    @property
    def room(self) -> int:
        """How many more calls the child may have at once."""
        return self.concurrency - self.load

    def next(self, busy: bool) -> Call | None:
        """The next call to send, now counted as sent; None when it has to wait."""
        if not self.waiting:
            return None
        call = self.waiting[0]
        if call.mode is not Mode.EVENT and (self.running >= self.concurrency or busy):
            return None
        self.waiting.popleft()
        self.begin(call)
        return call

    def begin(self, call: Call) -> None:
        """Count the call as sent, under the next number of this channel."""
        call.number = next(self._numbers)
        self.sent[call.number] = call
        self.running += call.mode is not Mode.EVENT

    def abandon(self, call: Call) -> int:
        """Nobody waits for this sent call any more, but it holds its place until the child is done with it.

        Returns its number, or 0 when it is not with the child.
        """
        number = call.number
        if not number or self.sent.get(number) is not call:
            return 0
        self.sent[number] = None
        call.number = 0
        return number

    def finish(self, number: int) -> Call | None:
        """The call with that number, which is over; None when nobody waits for it, or it is over already."""
        if number not in self.sent:
            return None
        call = self.sent.pop(number)
        if call is None or call.mode is not Mode.EVENT:
            self.running -= 1
            self.finished += 1
        if call is not None:
            call.number = 0
        return call

    def drop(self, call: Call) -> bool:
        """Forget a waiting call; False when it is not waiting here."""
        try:
            self.waiting.remove(call)
        except ValueError:
            return False
        return True

    def blames(self, begun: int) -> bool:
        """True when a call had begun that is not over: then that is what died."""
        return any(
            number <= begun and (call is None or call.mode is not Mode.EVENT) for number, call in self.sent.items()
        )

    def lose(self, begun: int) -> tuple[list[Call], list[Call]]:
        """The child is gone: the calls that had begun, and those that never did, each in the order they were sent."""
        sent = [(number, call) for number, call in sorted(self.sent.items()) if call is not None]
        started = [call for number, call in sent if number <= begun or call.mode is Mode.EVENT]
        untouched = [call for number, call in sent if number > begun and call.mode is not Mode.EVENT]
        self.sent.clear()
        self.running = self.finished = 0
        self._numbers = itertools.count(1)
        for _, call in sent:
            call.number = 0
        return started, untouched

    def requeue(self, calls: list[Call]) -> None:
        """Put calls back to the front, in that order."""
        self.waiting.extendleft(reversed(calls))
