"""The face that tasks and workers share for remote calls: get, call, stream, the proxy, and per-call options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, cast

import attrs

from relieve_py.calls import CALL, GET, STREAM, Call, CallOptions
from relieve_py.chunks import Chunk
from relieve_py.mapping import Map
from relieve_py.piping import Pipe
from relieve_py.policies import RetryPolicy, retry_policy
from relieve_py.replies import Reply
from relieve_py.streams import Stream

_UNSET: Any = object()


class Remote(ABC):
    """Something that runs calls. A subclass says how one is submitted."""

    @abstractmethod
    def _submit(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reply | Stream:
        """Encode and send it. Raises EncodeError."""

    _call_options: CallOptions
    """What holds for calls that say nothing else."""

    @abstractmethod
    def _exported(self) -> Iterable[str]:
        """The names that the child exports, as far as they are known."""

    def get(self, method: str | None = None, /, *args: Any, **kwargs: Any) -> Reply:
        """Know: a Reply of what ``method(*args, **kwargs)`` returns in the child.

        Without a method it is the default function; the name of something that is no function gives its value. Raises
        EncodeError for arguments that cannot be sent.
        """
        return self._submit(Call(GET, _name(method), self._call_options), args, kwargs)  # type: ignore[return-value]

    def call(self, method: str | None = None, /, *args: Any, **kwargs: Any) -> Reply:
        """Do: a Reply of None that settles once the child has accepted the call.

        What the function raises later is an ``error`` event, and a log record when nobody listens. Raises EncodeError.
        """
        return cast(Reply, self._submit(Call(CALL, _name(method), self._call_options), args, kwargs))

    def stream(self, method: str | None = None, /, *args: Any, **kwargs: Any) -> Stream:
        """The items of what the function returns or yields, sync or async, with backpressure. Raises EncodeError."""
        return cast(Stream, self._submit(Call(STREAM, _name(method), self._call_options), args, kwargs))

    def map(
        self,
        method: str | None,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        unordered: bool = False,
        return_exceptions: bool = False,
    ) -> Map:
        """``method(item)`` for each item, as an iterator, sync and async, in the order of the items.

        Items are taken, and results kept, only as far ahead as keeps every child busy. Short ones travel together, as
        many as take 10 milliseconds, and yet each is a call of its own: it fails, or dies with its child, alone. An
        item's error is raised at its place, and iteration can go on after it; with ``return_exceptions`` it is
        returned there. ``unordered``: as they come.
        """
        name = _name(method)
        submit, submit_chunk = self._submit_item(name), self._submit_items(name)
        return Map(submit, items, self._width, unordered, return_exceptions, submit_chunk)

    def pipe(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        method: str | None = None,
        *,
        unordered: bool = False,
        return_exceptions: bool = False,
    ) -> Pipe:
        """``method(item)`` for each item of a source that flows in by itself, as an iterator, sync and async.

        Unlike ``map``, which reads its items when it is read, this reads the source on a thread of its own, or an async
        source in the event loop that runs now: a result comes out as soon as it is there, however long the next item
        takes. At most a few items for each child are under way or wait to be read. Errors, ``unordered`` and
        ``return_exceptions`` are as with ``map``. Raises TypeError for what is no source.
        """
        return Pipe(source, self._submit_item(_name(method)), self._width, unordered, return_exceptions)

    def _submit_item(self, method: str | None) -> Callable[[Any], Reply]:
        def submit(item: Any) -> Reply:
            return cast(Reply, self._submit(Call(GET, method, self._call_options), (item,), {}))

        return submit

    def _submit_items(self, method: str | None) -> Callable[[list[Any]], Reply] | None:
        """What sends items that travel together, by options that hold for each; None where each needs a call of its
        own."""
        options = self._call_options
        if options.timeout is not None or (options.retries.max and options.retries.on) or not self._takes_chunks():
            return None

        def submit(items: list[Any]) -> Reply:
            return cast(Reply, self._submit(Chunk(method, options, items), (), {}))

        return submit

    @abstractmethod
    def _takes_chunks(self) -> bool:
        """Whether items of a map may travel together."""

    @abstractmethod
    def _width(self) -> int:
        """How many calls can run at once."""

    @property
    def remote(self) -> Proxy:
        """A proxy: ``task.remote.data(1)`` is ``task.get("data", 1)``."""
        return Proxy(self)

    def options(
        self,
        *,
        timeout: float | None = _UNSET,
        queue_timeout: float | None = _UNSET,
        retries: int | RetryPolicy = _UNSET,
        poison_after: int | None = _UNSET,
        key: Any = _UNSET,
        priority: int = _UNSET,
    ) -> Remote:
        """The same, with other options for the calls made through it.

        ``timeout``: seconds a call may run; ``queue_timeout``: seconds it may wait until it is first sent to a child;
        ``retries``: how often, or by what RetryPolicy, it is tried again;
        ``poison_after``: how many children it may kill; ``key``: what a sticky strategy goes by; ``priority``: a whole
        number, 0 if not said: of the calls that wait, those with the highest go first, and among equals the first come.
        Raises TypeError or ValueError that names the option.
        """
        changes = {
            "timeout": timeout,
            "queue_timeout": queue_timeout,
            "poison_after": poison_after,
            "key": key,
            "priority": priority,
        }
        changes = {name: value for name, value in changes.items() if value is not _UNSET}
        if retries is not _UNSET:
            changes["retries"] = retry_policy(retries, self._call_options.retries)
        return Bound(self, call_options(self._call_options, **changes))


def call_options(base: CallOptions, **changes: Any) -> CallOptions:
    """``base`` with changes. Raises TypeError or ValueError that names the option."""
    for name in ("timeout", "queue_timeout"):
        seconds = changes.get(name)
        if seconds is None:
            continue
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"{name} must be a number of seconds, not {seconds!r}")
        if not seconds > 0:
            raise ValueError(f"{name} must be more than 0 seconds, not {seconds!r}")
    poison_after = changes.get("poison_after")
    if poison_after is not None:
        if isinstance(poison_after, bool) or not isinstance(poison_after, int):
            raise TypeError(f"poison_after must be a whole number, not {poison_after!r}")
        if poison_after < 1:
            raise ValueError(f"poison_after must be at least 1, not {poison_after!r}")
    priority = changes.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be a whole number, not {priority!r}")
    return attrs.evolve(base, **changes)


def _name(method: Any) -> str | None:
    if method is None or type(method) is str:
        return method
    if not isinstance(method, str):
        raise TypeError(f"a method is named by a string, not {method!r}")
    return str.__str__(method)  # without a class that the child may not be able to import


class Bound(Remote):
    """A task or worker with other call options."""

    def __init__(self, remote: Remote, options: CallOptions) -> None:
        self._remote = remote
        self._call_options = options

    def _submit(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reply | Stream:
        return self._remote._submit(call, args, kwargs)

    def _exported(self) -> Iterable[str]:
        return self._remote._exported()

    def _takes_chunks(self) -> bool:
        return self._remote._takes_chunks()

    def _width(self) -> int:
        return self._remote._width()


class Proxy:
    """What the child exports, as methods of an object; each returns the Reply of ``get``."""

    def __init__(self, remote: Remote) -> None:
        self.__dict__["_remote"] = remote

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        remote: Remote = self.__dict__["_remote"]

        def method(*args: Any, **kwargs: Any) -> Reply:
            return remote.get(name, *args, **kwargs)

        method.__name__ = method.__qualname__ = name
        return method

    def __dir__(self) -> list[str]:
        return sorted(self.__dict__["_remote"]._exported())
