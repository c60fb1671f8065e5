"""What an adapter is: a pool of children that takes calls, in the way that its users would write it."""

from __future__ import annotations

import asyncio
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from benchmarks.suite.functions import same
from benchmarks.suite.meeting import gather

LIMIT = 60.0
"""Seconds for any one step; what takes longer has failed, and so will its piece at the latest."""


class Promise(Protocol):
    """What ``submit`` gives."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the value."""


class Peer(ABC):
    """A pool of ``children`` children, opened by ``with``.

    A subclass has ``open`` and ``close``, the ways to hand over work that its ``can`` asks for (mostly ``submit`` and
    ``map``), and overrides what its users do in a shorter way.
    """

    needs = ""
    """The module without which it is skipped."""
    distribution = ""
    """Whose version is reported; empty for what comes with Python."""
    can: frozenset[str] = frozenset({"trip", "submits", "map", "echo", "start", "kill", "kill busy", "weight", "idle"})
    """Names of the works that it is measured by."""
    arrays = True
    """False when it can send no array."""
    warm_map = 0.1
    """The part of the items that it maps before it is measured."""
    most_children = 1000
    """More would only test the patience of whoever waits."""
    promises = False
    """True when it says that it replaces a child that dies, and has failed when it does not."""
    smoked = True
    """False when it differs from another only by how its children start: a smoke run leaves it out."""
    rounds = 100
    """At most so many: what takes seconds to start has fewer, and so has what is never among the first."""
    share: Mapping[str, float] = {}
    """By name of a work: the part of its items that it gets, when it would take minutes for all; rates are compared."""

    def __init__(self, children: int) -> None:
        self.children = children

    def __enter__(self) -> Peer:
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @classmethod
    def installed(cls) -> bool:
        """False when it has to be skipped here."""
        return not cls.needs or importlib.util.find_spec(cls.needs) is not None

    @abstractmethod
    def open(self) -> None:
        """Start the children, as far as it does that before it has work."""

    @abstractmethod
    def close(self) -> None:
        """Stop them."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Promise:
        """Hand over one call."""
        raise TypeError(f"{type(self).__name__} hands over no single call: it can only be measured by {set(self.can)}")

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Make one call and wait for its value."""
        return self.submit(function, *args).result()

    def trips(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """One call after the other, each once the value of the one before is there."""
        return [self.call(function, item) for item in items]

    def echo(self, value: Any) -> Any:
        """Send a value to a child and get it back."""
        return self.call(same, value)

    def submits(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """One call for each item, each handed over by itself; then all values, in order."""
        return [reply.result(LIMIT) for reply in [self.submit(function, item) for item in items]]

    def submit_with(self, done: Callable[[Any], None], function: Callable[..., Any], *args: Any) -> None:
        """Hand over one call; ``done`` gets its value, on whatever thread."""
        reply: Any = self.submit(function, *args)
        reply.add_done_callback(lambda over: done(over.result()))

    async def awaited(self, function: Callable[..., Any], *args: Any) -> Any:
        """Make one call under a running event loop."""
        future: Any = self.submit(function, *args)
        return await asyncio.wrap_future(future)

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """All values in order, with the options that it has when its user gives none."""
        raise TypeError(f"{type(self).__name__} maps nothing: it can only be measured by {set(self.can)}")

    def pids(self) -> list[int]:
        """The children, each of which has answered a call."""
        return gather(self, self.children, LIMIT)
