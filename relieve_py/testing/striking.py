"""What chaos does in a child: it stands around the calls there, draws what befalls each, counts that, and does it.

A child loads this, so it imports only what costs nothing.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from relieve_py.child.calling import STREAM
from relieve_py.wire import HEADER_BYTES, VERSION

if TYPE_CHECKING:
    from relieve_py.child.calling import Invoke, Request

COUNTED = ("calls", "kills", "stops", "delays", "corruptions")
"""What a page counts, in this order."""
_BYTES = mmap.PAGESIZE


class Page:
    """A page of memory that the parent shares with the children of one task, one after the other: whether chaos is on,
    and how often each thing has happened. Only a child counts, so that a count is there before the child dies of it;
    and of two children that a task may have for a moment, only one is given calls."""

    def __init__(self, path: str, *, make: bool = False) -> None:
        """Raises OSError: FileNotFoundError when the chaos is over."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if make else 0), 0o600)
        try:
            if make:
                os.truncate(fd, _BYTES)
            self._map = mmap.mmap(fd, _BYTES)
        finally:
            os.close(fd)
        self._numbers = memoryview(self._map).cast("Q")
        if make:
            self.on = True

    @property
    def on(self) -> bool:
        """Whether anything is to happen."""
        return bool(self._numbers[0])

    @on.setter
    def on(self, yes: bool) -> None:
        self._numbers[0] = yes

    def count(self, what: str) -> int:
        """One more of these; how many that makes."""
        place = 1 + COUNTED.index(what)
        self._numbers[place] += 1
        return self._numbers[place]

    def counts(self) -> dict[str, int]:
        """How many there were of each."""
        return dict(zip(COUNTED, self._numbers[1 : 1 + len(COUNTED)], strict=True))

    def close(self) -> None:
        """Let go of the memory."""
        self._numbers.release()
        self._map.close()


class Fate:
    """What befalls one call: the same for the same seed, task and call, and each rate by itself."""

    __slots__ = ("after", "garbage", "late", "strike")

    def __init__(self, seed: int | str, task: int, call: int, rates: dict[str, float]) -> None:
        drawn = random.Random(f"{seed}/{task}/{call}")
        self.late = drawn.random() < rates["delay"]
        self.strike = _share(drawn.random(), rates)
        self.after = drawn.random() < 0.5  # when the function is through, rather than before it
        self.garbage = drawn.randbytes(4 * HEADER_BYTES)


def _share(drawn: float, rates: dict[str, float]) -> str | None:
    """One of those of which a call can suffer one only."""
    for what in ("kill", "stop", "corrupt"):
        drawn -= rates[what]
        if drawn < 0:
            return what
    return None


class Striker:
    """The container that chaos puts into the children of one task."""

    def __init__(self, path: str, seed: int | str, task: int, rates: dict[str, float], delay_seconds: float) -> None:
        self._path = path
        self._seed = seed
        self._task = task  # its number among the tasks of this chaos, for names may differ from run to run
        self._rates = rates
        self._delay_seconds = delay_seconds
        self._page: Page
        self._child: Any

    def __call__(self, ipc: Any) -> None:
        """In the child: stand around its calls, unless the chaos is over."""
        try:
            self._page = Page(self._path)
        except FileNotFoundError:
            return
        self._child = ipc._runtime
        self._child.around_calls(self._around)

    def _around(self, invoke: Invoke) -> Invoke:
        def struck(function: Any, args: Any, kwargs: Any, request: Request) -> Any:
            if not self._page.on:
                return invoke(function, args, kwargs, request)
            fate = Fate(self._seed, self._task, self._page.count("calls"), self._rates)
            if fate.late:
                self._page.count("delays")
                time.sleep(self._delay_seconds)
            if not fate.after:
                self._strike(fate)
            result = invoke(function, args, kwargs, request)
            if fate.after and request.mode == STREAM:
                return _after_first(result, lambda: self._strike(fate))
            if fate.after:
                self._strike(fate)
            return result

        return struck

    def _strike(self, fate: Fate) -> None:
        match fate.strike:
            case "kill":
                self._page.count("kills")
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                self._page.count("stops")
                os.kill(os.getpid(), signal.SIGSTOP)
            case "corrupt":
                self._page.count("corruptions")
                # Of random bytes some would look like the beginning of a frame that never ends.
                self._child.spoil(bytes([VERSION ^ 0xFF]) + fate.garbage)


def _after_first(items: Any, strike: Callable[[], None]) -> Any:
    """The items, with the strike when more than the first is asked for: that one is on its way then."""
    return _after_first_async(items, strike) if hasattr(items, "__aiter__") else _after_first_sync(items, strike)


def _after_first_sync(items: Any, strike: Callable[[], None]) -> Iterator[Any]:
    iterator = iter(items)
    try:
        for item in iterator:
            yield item
            break
        strike()
        yield from iterator
    finally:
        if hasattr(iterator, "close"):
            iterator.close()


async def _after_first_async(items: Any, strike: Callable[[], None]) -> AsyncIterator[Any]:
    iterator = aiter(items)
    try:
        async for item in iterator:
            yield item
            break
        strike()
        async for item in iterator:
            yield item
    finally:
        if hasattr(iterator, "aclose"):
            await iterator.aclose()
