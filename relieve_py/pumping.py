"""Pump: reads a source while there is room for its items, where the source can be read, and never on the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Protocol

from relieve_py import locks
from relieve_py.errors import RelieveError
from relieve_py.reducing import Streamed
from relieve_py.strands import Strand, under_a_loop
from relieve_py.supervisor import shared

CHUNK = 1 << 16
"""Bytes that are read at a time from a file. Less: more items; more: more memory for each file."""


class Pump(ABC):
    """Reads one source: on a strand of its own or, if it is async and a loop runs now, in that loop. Nothing waits for
    room: whoever makes some says so with ``go_on()``."""

    def __init__(self) -> None:
        self.lock = locks.new()  # owner: whoever touches the fields below, or has_room(); held for no others' code
        self.unwanted = False  # nobody takes items any more
        self.ended = False  # nothing more will come
        self._pumping = False
        self._producer: _Producer

    def draw_from(self, source: Any, binary: bool = False) -> None:
        """What is read: an iterable, an async iterable, or a binary file."""
        if not binary and isinstance(source, AsyncIterable) and (under_a_loop() or not isinstance(source, Iterable)):
            self._producer = _AsyncProducer(source, self._run_async, self)
        else:
            self._producer = _SyncProducer(source, binary, self._run)

    # -- what a subclass says ----------------------------------------------------------------------

    @abstractmethod
    def has_room(self) -> bool:
        """Under the lock: another item may be read."""

    @abstractmethod
    def give(self, item: Any) -> None:
        """Take an item. Not under the lock."""

    @abstractmethod
    def finish(self, error: BaseException | None) -> None:
        """Nothing more comes, because of that error or of the end. Not under the lock; sets ``ended``."""

    # -- what drives it ----------------------------------------------------------------------------

    def go_on(self) -> None:
        """There may be room, or nothing more is wanted."""
        with self.lock:
            if self._pumping or self.ended or not (self.unwanted or self.has_room()):
                return
            self._pumping = True
        self._producer.start()

    @property
    def finished(self) -> bool:
        """True when nothing more is read."""
        return self.ended or self.unwanted

    def lost_its_loop(self) -> None:
        """The event loop in which it is read runs no more."""
        if not self.ended:
            self.finish(RelieveError("the event loop in which the items were produced has ended"))

    def _wants(self) -> bool:
        """True when another item is to be read; if not, the run ends."""
        with self.lock:
            self._pumping = not self.unwanted and not self.ended and self.has_room()
            return self._pumping

    def _run(self, items: Callable[[], Any]) -> None:
        """On the strand."""
        while self._wants():
            try:
                item = items()
            except StopIteration:
                self.finish(None)
            except BaseException as error:
                self.finish(error)
            else:
                self.give(item)
        if self.unwanted:
            self._producer.close()

    async def _run_async(self, items: Callable[[], Any]) -> None:
        """The same in an event loop."""
        guard = self._until_its_loop_ends()
        await anext(guard)
        while self._wants():
            try:
                item = await items()
            except StopAsyncIteration:
                self.finish(None)
            except asyncio.CancelledError:
                self.lost_its_loop()
                raise
            except BaseException as error:
                self.finish(error)
            else:
                self.give(item)
        if self.unwanted:
            await self._producer.aclose()
        await anext(guard, None)

    async def _until_its_loop_ends(self) -> AsyncIterator[None]:
        """A loop that ends closes the generators that have begun in it, but does not cancel the tasks that begin after
        it has cancelled all."""
        try:
            yield
        except GeneratorExit:
            self.lost_its_loop()
            raise


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

    def __init__(self, source: AsyncIterable[Any], pump: Callable[[Callable[[], Any]], Any], owner: Pump) -> None:
        self._source = source
        self._pump = pump
        self._owner = owner
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
            self._owner.lost_its_loop()
            return
        self._task = self._loop.create_task(self._pump(self._next))
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # maybe before it ever ran
            self._owner.lost_its_loop()

    def _lost(self) -> None:
        self._strand.submit(self._owner.lost_its_loop)

    def _run(self) -> None:
        if self._runner is None:
            self._runner = asyncio.Runner()
        self._runner.run(self._pump(self._next))
        if self._owner.finished:
            self._runner.close()

    async def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = aiter(self._source)
        return await anext(self._iterator)

    def close(self) -> None:
        """An async pump closes by ``aclose``."""

    async def aclose(self) -> None:
        with contextlib.suppress(Exception):  # nobody is left to be told
            if isinstance(self._iterator, AsyncGeneratorType):
                await self._iterator.aclose()
            elif isinstance(self._iterator, Streamed):
                self._iterator.close()


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
