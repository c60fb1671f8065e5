"""Inflow: a stream among the arguments of a call, as the called function reads it."""

from __future__ import annotations

import io
import queue
import threading
from collections import deque
from typing import Any, Protocol

from relieve_py.answers import remote_error
from relieve_py.errors import RelieveError
from relieve_py.reading import Reading
from relieve_py.serializers import Payload, Serializer, decode
from relieve_py.wire import FED_ERROR, FED_OVER, STREAM_BYTES, STREAM_WINDOW, Frame, Kind

Wake = tuple[Any, Any]
"""The event loop and the future of a coroutine that waits."""


class Home(Protocol):
    """The child, as its inflows see it."""

    serializer: Serializer
    inflows: dict[int, Inflow]

    def answer(self, kind: Kind, number: int, payload: Payload | None) -> None:
        """Send a frame."""
        ...


class Inflow(Reading):
    """What stands for a stream among the arguments: sync and async iteration, once, as its items are produced.

    What the producer raises is raised here. ``close()`` says that no more items are wanted; so does the call's end.
    """

    def __init__(self, home: Home, number: int) -> None:
        self._home = home
        self._number = number
        self._arrived: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._wakes: deque[Wake] = deque()
        self._lock = threading.Lock()  # owner: whoever touches the fields below
        self._begun = self._closed = False
        self._taken = self._nbytes = 0

    def arrived(self, frame: Frame) -> None:
        """An item, or the end. On the thread that reads the channel."""
        self._arrived.put(frame)
        while self._wakes:
            loop, future = self._wakes.popleft()
            try:
                loop.call_soon_threadsafe(_release, future)
            except RuntimeError:  # that loop was closed: nobody waits in it
                continue

    # -- reading -----------------------------------------------------------------------------------

    def __next__(self) -> Any:
        self._begin(StopIteration)
        return self._open(self._arrived.get(), StopIteration)

    async def __anext__(self) -> Any:
        import asyncio

        self._begin(StopAsyncIteration)
        loop = asyncio.get_running_loop()
        while True:
            try:
                frame = self._arrived.get_nowait()
            except queue.Empty:
                future = loop.create_future()
                self._wakes.append((loop, future))
                if self._arrived.empty():  # else it came before the line above
                    await future
            else:
                return self._open(frame, StopAsyncIteration)

    def _begin(self, stop: type[Exception]) -> None:
        with self._lock:
            begun, self._begun = self._begun, True
        if self._closed:
            raise stop
        if not begun:
            self._home.inflows[self._number] = self  # until the parent says that it has ended
            self._take(0)

    def _open(self, frame: Frame, stop: type[Exception]) -> Any:
        if self._closed:
            raise stop
        if frame.kind == Kind.FED:
            self._arrived.put(Frame(Kind.FED, self._number))  # for whoever asks again
            if frame.flags == FED_ERROR:
                raise _no_stop(remote_error(self._home.serializer, Payload.of_frame(frame)))
            if frame.flags == FED_OVER:
                raise RelieveError("the call that this stream came with is over")
            raise stop
        payload = Payload.of_frame(frame)
        size = len(payload)
        try:
            return decode(self._home.serializer, payload, "an item of a stream among the arguments")
        finally:
            self._count(size)

    def _count(self, size: int) -> None:
        """One was taken: others may come in its place."""
        taken = 0
        with self._lock:
            self._taken += 1
            self._nbytes += size
            if self._taken >= STREAM_WINDOW // 2 or self._nbytes >= STREAM_BYTES // 2:
                taken, self._taken, self._nbytes = self._taken, 0, 0
        if taken:
            self._take(taken)

    def _take(self, items: int) -> None:
        self._home.answer(Kind.TAKE, self._number, Payload(items.to_bytes(8, "little")))

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Read no more; what produces the items is closed. Closing twice is fine."""
        with self._lock:
            reads, self._closed = self._begun and not self._closed, True
        if reads:
            self._home.answer(Kind.ENOUGH, self._number, None)
        self.arrived(Frame(Kind.FED, self._number))


class InflowFile(io.RawIOBase):
    """The same as a binary file that can only be read."""

    def __init__(self, inflow: Inflow) -> None:
        super().__init__()
        self._inflow = inflow
        self._rest = memoryview(b"")

    @classmethod
    def open(cls, inflow: Inflow) -> io.BufferedReader:
        """With a buffer, so that it has all that a file has."""
        return io.BufferedReader(cls(inflow))

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Copy what there is, at least one byte; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._inflow, b""))
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n


def _no_stop(error: BaseException) -> BaseException:
    """As it is, unless that would look like the end of the stream."""
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        wrapped = RuntimeError(f"what produces the stream raised {type(error).__name__}")
        wrapped.__cause__ = error
        return wrapped
    return error


def _release(future: Any) -> None:
    if not future.done():
        future.set_result(None)
