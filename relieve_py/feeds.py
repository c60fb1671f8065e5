"""Feeds: streams among the arguments of a call, produced here as the child takes them."""

from __future__ import annotations

import io
import weakref
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any

from relieve_py import ipc, locks
from relieve_py.errors import EncodeError, ProtocolError
from relieve_py.pumping import Pump
from relieve_py.reducing import Streamed
from relieve_py.serializers import Payload, Serializer, encode, encode_streamed
from relieve_py.telling import error_payload
from relieve_py.wire import FED_ERROR, STREAM_BYTES, STREAM_WINDOW, Frame, Kind

if TYPE_CHECKING:
    from relieve_py.calls import Call

Post = Callable[[Frame], object]
_feeds: weakref.WeakValueDictionary[int, Feed] = weakref.WeakValueDictionary()
_given: weakref.WeakSet[Any] = weakref.WeakSet()  # generators that go with a call


class _Numbers:
    """The numbers of feeds, one after the other."""

    def __init__(self) -> None:
        self._lock = locks.new()  # owner: whoever counts
        self.last = 0

    def next(self) -> int:
        """Another."""
        with self._lock:
            self.last += 1
            return self.last


_numbers = _Numbers()


def was_made(number: int) -> bool:
    """True when there was ever a feed of that number."""
    return number <= _numbers.last


def feed(source: Iterable[Any] | AsyncIterable[Any] | Any) -> Feed:
    """Mark an argument of a call as a stream: the child reads it as it is produced, and at most a little is ahead.

    An iterable arrives as an iterator, sync and async; a binary file, or what has a ``read`` like one, as a binary
    file. A generator, Stream or Map that is itself an argument needs no mark. Each feed goes with one call. Raises
    TypeError for what is none of these.
    """
    return Feed(source)


class Feed(Pump, Streamed):
    """A stream that goes with one call, made by ``feed()``.

    It is read on a thread of its own or, if it is async and a loop was running when the call was made, in that loop.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.number = _numbers.next()
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
        self._flight: deque[int] = deque()  # the size of each item that the child has not taken yet
        self._nbytes = 0  # of those
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
        self.draw_from(self._source, self.binary)

    def go_alone(self) -> None:
        """The call was not made."""
        self._call = None
        if isinstance(self._source, (GeneratorType, AsyncGeneratorType)):
            _given.discard(self._source)

    # -- what the child says -----------------------------------------------------------------------

    def taken(self, items: int, post: Post) -> None:
        """The child begins to read (0), or has taken so many more. Raises ProtocolError for more than it was given."""
        with self.lock:
            if items > len(self._flight):
                raise ProtocolError(f"{items} items of a stream were taken, and {len(self._flight)} were there")
            self._post = post
            self.begun = True
            for _ in range(items):
                self._nbytes -= self._flight.popleft()
        self.go_on()

    def over(self) -> bool:
        """Nobody will read any more; True if the child does not know yet that there is nothing more to come."""
        with self.lock:
            told, self.unwanted = self.finished, True
        if self.begun:
            self.go_on()
        return not told

    # -- the pump ----------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Under the lock: the child has not too much ahead of it."""
        return len(self._flight) < STREAM_WINDOW and self._nbytes < STREAM_BYTES

    def give(self, item: Any) -> None:
        """Send it. One that cannot be sent is an error for the child."""
        try:
            payload = encode(self._serializer, item, item=item)
            payload.check()
        except Exception as error:
            self.finish(error)
            with self.lock:
                self.unwanted = True  # the source is closed
            return
        with self.lock:
            self._flight.append(len(payload))
            self._nbytes += len(payload)
        self._post(payload.to_frame(Kind.FEED, self.number))

    def finish(self, error: BaseException | None) -> None:
        """Tell the child, unless it has the end, or wants no more."""
        frame = Frame(Kind.FED, self.number)
        if error is not None:
            frame = error_payload(self._serializer, error).to_frame(Kind.FED, self.number, FED_ERROR)
        with self.lock:
            told, self.ended = self.finished, True
        if not told:
            self._post(frame)


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
