"""Feeds: streams among the arguments of a call, produced here as the child takes them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Protocol

from relieve_py import ipc
from relieve_py.errors import EncodeError, ProtocolError, RelieveError
from relieve_py.events import Strand, under_a_loop
from relieve_py.serializers import Payload, Serializer, Streamed, encode, encode_streamed
from relieve_py.supervisor import shared
from relieve_py.telling import error_payload
from relieve_py.wire import FED_ERROR, STREAM_BYTES, STREAM_WINDOW, Frame, Kind

if TYPE_CHECKING:
    from relieve_py.calls import Call

CHUNK = 1 << 16
"""Bytes that are read at a time from a file. Less: more frames; more: more memory for each file."""

Post = Callable[[Frame], object]
_numbers = itertools.count(1)
_feeds: weakref.WeakValueDictionary[int, Feed] = weakref.WeakValueDictionary()
_given: weakref.WeakSet[Any] = weakref.WeakSet()  # generators that go with a call


def feed(source: Iterable[Any] | AsyncIterable[Any] | Any) -> Feed:
    """Mark an argument of a call as a stream: the child reads it as it is produced, and at most a little is ahead.

    An iterable arrives as an iterator, sync and async; a binary file, or what has a ``read`` like one, as a binary
    file. A generator, Stream or Map that is itself an argument needs no mark. Each feed goes with one call. Raises
    TypeError for what is none of these.
    """
    return Feed(source)


class Feed(Streamed):
    """A stream that goes with one call, made by ``feed()``.

    It is read on a thread of its own or, if it is async and a loop was running when the call was made, in that loop.
    """

    def __init__(self, source: Any) -> None:
        self.number = next(_numbers)
        self.binary = hasattr(source, "read") and not isinstance(source, io.TextIOBase)
        if isinstance(source, (str, bytes, bytearray, memoryview)) or not (
            self.binary or isinstance(source, (Iterable, AsyncIterable))
        ):
            raise TypeError(f"a feed is made of an iterable, an async iterable or a binary file, not of {source!r}")
        self.begun = False  # something may have been taken of the source, so that it cannot be given again
        self._source = source
        self._call: weakref.ref[Call] | None = None
        self._serializer: Serializer
        self._post: Post
        self._lock = threading.Lock()  # owner: whoever touches the fields below; held for no code of others
        self._flight: deque[int] = deque()  # the size of each item that the child has not taken yet
        self._nbytes = 0  # of those
        self._pumping = False
        self._unwanted = False
        self._ended = False
        self._producer: _Producer
        _feeds[self.number] = self

    def __repr__(self) -> str:
        return f"<Feed {self.number} of {self._source!r}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a feed goes only with a call, as an argument")

    @property
    def call(self) -> Call | None:
        """The call that it goes with."""
        return self._call() if self._call is not None else None

    def go_with(self, call: Call, serializer: Serializer) -> None:
        """Belong to that call. Raises EncodeError if it belongs to another, or what it reads does."""
        generator = isinstance(self._source, (GeneratorType, AsyncGeneratorType))
        if self._call is not None or (generator and self._source in _given):
            raise EncodeError(f"{self._source!r} goes with another call already, and can be read only once")
        if generator:
            _given.add(self._source)
        self._call = weakref.ref(call)
        self._serializer = serializer
        if (
            not self.binary
            and isinstance(self._source, AsyncIterable)
            and (under_a_loop() or not isinstance(self._source, Iterable))
        ):
            self._producer = _AsyncProducer(self._source, self._pump_async, self)
        else:
            self._producer = _SyncProducer(self._source, self.binary, self._pump)

    def go_alone(self) -> None:
        """The call was not made."""
        self._call = None
        if isinstance(self._source, (GeneratorType, AsyncGeneratorType)):
            _given.discard(self._source)

    # -- what the child says -----------------------------------------------------------------------

    def taken(self, items: int, post: Post) -> None:
        """The child begins to read (0), or has taken so many more. Raises ProtocolError for more than it was given."""
        with self._lock:
            if items > len(self._flight):
                raise ProtocolError(f"{items} items of a stream were taken, and {len(self._flight)} were there")
            self._post = post
            self.begun = True
            for _ in range(items):
                self._nbytes -= self._flight.popleft()
        self._go_on()

    def over(self) -> bool:
        """Nobody will read any more; True if the child does not know yet that there is nothing more to come."""
        with self._lock:
            told, self._unwanted = self._ended or self._unwanted, True
        if self.begun:
            self._go_on()
        return not told

    # -- the pump ----------------------------------------------------------------------------------

    def _go_on(self) -> None:
        with self._lock:
            if self._pumping or self._ended or not (self._room or self._unwanted):
                return
            self._pumping = True
        self._producer.start()

    @property
    def _room(self) -> bool:
        return len(self._flight) < STREAM_WINDOW and self._nbytes < STREAM_BYTES

    def _wants(self) -> bool:
        """True when another item is to be produced; if not, the pump ends."""
        with self._lock:
            self._pumping = not self._unwanted and not self._ended and self._room
            return self._pumping

    def _pump(self, items: Callable[[], Any]) -> None:
        """On the strand: produce as long as there is room."""
        while self._wants():
            try:
                item = items()
            except StopIteration:
                self._end(Frame(Kind.FED, self.number))
            except BaseException as error:
                self._fail(error)
            else:
                self._give(item)
        if self._unwanted:
            self._producer.close()

    async def _pump_async(self, items: Callable[[], Any]) -> None:
        """The same in an event loop."""
        guard = self._until_its_loop_ends()
        await anext(guard)
        while self._wants():
            try:
                item = await items()
            except StopAsyncIteration:
                self._end(Frame(Kind.FED, self.number))
            except asyncio.CancelledError:
                self.lost_its_loop()
                raise
            except BaseException as error:
                self._fail(error)
            else:
                self._give(item)
        if self._unwanted:
            await self._producer.aclose()
        await anext(guard, None)

    async def _until_its_loop_ends(self) -> AsyncIterator[None]:
        """A loop that ends closes the generators that have begun in it, and not the tasks that begin after it has
        cancelled all: this one has the child told."""
        try:
            yield
        except GeneratorExit:
            self.lost_its_loop()
            raise

    def _give(self, item: Any) -> None:
        try:
            payload = encode(self._serializer, item, item=item)
            payload.check()
        except Exception as error:
            self._fail(error)
            with self._lock:
                self._unwanted = True  # the source is closed
            return
        with self._lock:
            self._flight.append(len(payload))
            self._nbytes += len(payload)
        self._post(payload.to_frame(Kind.FEED, self.number))

    def lost_its_loop(self) -> None:
        """The event loop in which it is produced runs no more."""
        self._fail(RelieveError("the event loop in which the items of this stream were produced has ended"))

    @property
    def finished(self) -> bool:
        """True when nothing more is produced."""
        return self._ended or self._unwanted

    def _fail(self, error: BaseException) -> None:
        self._end(error_payload(self._serializer, error).to_frame(Kind.FED, self.number, FED_ERROR))

    def _end(self, frame: Frame) -> None:
        with self._lock:
            told, self._ended = self._unwanted or self._ended, True
        if not told:
            self._post(frame)


# -- where the items come from ---------------------------------------------------------------------


class _Producer(Protocol):
    """Runs the pump where the source can be read."""

    def start(self) -> None:
        """Have the pump run; never on this thread."""
        ...

    def close(self) -> None:
        """In the pump: nothing more is wanted."""
        ...

    async def aclose(self) -> None:
        """The same in an async pump."""
        ...


class _SyncProducer:
    """Reads an iterable or a file on a strand of its own."""

    def __init__(self, source: Any, binary: bool, pump: Callable[[Callable[[], Any]], None]) -> None:
        self._source = source
        self._pump = pump
        self._strand = Strand()
        self._read = getattr(source, "read1", source.read) if binary else None  # read1 gives what there is
        self._iterator: Iterator[Any] | None = None

    def start(self) -> None:
        self._strand.submit(self._pump, self._next if self._read is None else self._next_chunk)

    def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._source)
        return next(self._iterator)

    def _next_chunk(self) -> bytes:
        assert self._read is not None
        chunk = self._read(CHUNK)
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise TypeError(f"a binary file gives bytes, and {self._source!r} gave {type(chunk).__name__}")
        if not chunk:
            raise StopIteration
        return bytes(chunk)

    def close(self) -> None:
        if isinstance(self._iterator, (GeneratorType, Streamed)):  # what else there is, is the user's to close
            with contextlib.suppress(Exception):  # nobody is left to be told
                self._iterator.close()

    async def aclose(self) -> None:
        self.close()


class _AsyncProducer:
    """Reads an async iterable in the loop that runs now or, without one, in a loop of its own on a strand."""

    def __init__(self, source: AsyncIterable[Any], pump: Callable[[Callable[[], Any]], Any], feed: Feed) -> None:
        self._source = source
        self._pump = pump
        self._feed = feed
        self._iterator: AsyncIterator[Any] | None = None
        self._task: asyncio.Task[None] | None = None  # the loop itself keeps no task alive
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: asyncio.Runner | None = None
        self._strand = Strand()
        if under_a_loop():
            self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        if self._loop is None:
            self._strand.submit(self._run)
            return
        try:
            if not self._loop.is_running():
                raise RuntimeError("the event loop is not running")
            self._loop.call_soon_threadsafe(_Errand(self._spawn, self._lost))
        except RuntimeError:
            self._lost()

    def _spawn(self) -> None:
        assert self._loop is not None
        if getattr(self._loop, "_asyncgens_shutdown_called", False):  # it is about to be closed, with what waits in it
            self._feed.lost_its_loop()
            return
        self._task = self._loop.create_task(self._pump(self._next))
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # maybe before it ever ran
            self._feed.lost_its_loop()

    def _lost(self) -> None:
        self._strand.submit(self._feed.lost_its_loop)

    def _run(self) -> None:
        if self._runner is None:
            self._runner = asyncio.Runner()
        self._runner.run(self._pump(self._next))
        if self._feed.finished:
            self._runner.close()

    async def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = aiter(self._source)
        return await anext(self._iterator)

    def close(self) -> None:
        """An async pump closes by ``aclose``."""

    async def aclose(self) -> None:
        if isinstance(self._iterator, (AsyncGeneratorType, Streamed)):
            with contextlib.suppress(Exception):  # nobody is left to be told
                await self._iterator.aclose()


class _Errand:
    """Something that a loop is to do, which hears of it if the loop is closed instead."""

    def __init__(self, do: Callable[[], object], lost: Callable[[], object]) -> None:
        self._do: Callable[[], object] | None = do
        self._lost = lost

    def __call__(self) -> None:
        do, self._do = self._do, None
        if do is not None:
            do()

    def __del__(self) -> None:
        if self._do is not None:
            # By way of the I/O thread: the collector may run this in the middle of a lock that a strand needs.
            shared().post(self._lost)


# -- encoding --------------------------------------------------------------------------------------


def encode_with_feeds(
    serializer: Serializer, message: Any, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Payload, tuple[Feed, ...]]:
    """The payload of a call with streams among its arguments, and those. Raises EncodeError."""
    feeds: dict[int, Feed] = {}
    streams = {id(arg) for arg in (*args, *kwargs.values())}  # only a mark makes a stream of what is deeper inside

    def represent(obj: Any) -> Any:
        found = feeds.get(id(obj))
        if found is None:
            if not isinstance(obj, Feed) and id(obj) not in streams:
                return NotImplemented
            found = obj if isinstance(obj, Feed) else Feed(obj)
            found.go_with(call, serializer)
            feeds[id(obj)] = found
        return ipc._arriving_stream, (found.number, found.binary)

    try:
        payload = encode_streamed(serializer, message, represent, args=args, kwargs=kwargs)
        payload.check()
    except EncodeError:
        for found in feeds.values():
            found.go_alone()
        raise
    return payload, tuple(feeds.values())


def feed_of(number: int) -> Feed | None:
    """The feed with that number, if it is still there."""
    return _feeds.get(number)
