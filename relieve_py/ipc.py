"""The channel to the parent, for code that runs in a child; harmless to import, and to call, in the parent too.

Outside a child ``send`` does nothing and handlers are kept but never called, so that a module written for a child can
be imported, and its functions called, anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Handler = Callable[..., Any]


class Runtime(Protocol):
    """What a child provides behind these functions."""

    name: str
    argv: list[Any]

    def send(self, name: str, args: tuple[Any, ...]) -> None:
        """Send an event to the parent."""
        ...

    def emit(self, name: str, args: tuple[Any, ...]) -> Any:
        """Send an event to the parent that is answered."""
        ...

    def on(self, name: str, handler: Handler, once: bool) -> None:
        """Register a handler."""
        ...

    def off(self, name: str | None, handler: Handler | None) -> None:
        """Remove handlers."""
        ...

    def available(self, yes: bool) -> None:
        """Tell the parent whether calls are welcome."""
        ...

    def open_stream(self, number: int, binary: bool) -> Any:
        """What stands here for a stream among the arguments of a call."""
        ...

    def go(self, for_good: bool) -> None:
        """Ask the parent for this child's end, and, if not for good, for another in its place."""
        ...

    def before_kill(self, function: Callable[[], object]) -> None:
        """Have it run when this child is about to be killed."""
        ...

    def request(self) -> Request:
        """The call that runs here."""
        ...

    def all_requests(self) -> list[Request]:
        """All calls that are not answered."""
        ...


class Request(Protocol):
    """The call that runs: ``id`` and ``created_at`` (seconds since the epoch) are those of the caller."""

    id: int
    method: str | None
    created_at: float

    def ack(self) -> None:
        """Answer without a value."""
        ...

    def respond(self, value: Any = None) -> None:
        """Answer with that value, or with the items of that iterable if the call is a stream; what the function returns
        is then ignored. Raises RuntimeError the second time."""
        ...

    def write(self, item: Any) -> None:
        """Send one item, if the call is a stream; waits while the reader has too much before it. ``ack()`` ends it.

        Raises TypeError when the call asks for no items, RuntimeError when it is over, EncodeError.
        """
        ...

    def fail(self, error: BaseException) -> None:
        """Answer with an error. Raises RuntimeError when the call was answered already."""
        ...


_runtime: Runtime | None = None


def _set_runtime(runtime: Runtime | None) -> None:
    """Become the ``ipc`` of a child. Called by the child's own start-up only."""
    global _runtime
    _runtime = runtime


def send(name: str, *args: Any) -> None:
    """Send an event to the parent. Raises EncodeError for arguments that cannot be sent."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"an event's name is a non-empty string, not {name!r}")
    if _runtime is not None:
        _runtime.send(name, args)


def emit(name: str, *args: Any) -> Any:
    """Ask the parent: an event whose answer is what its first listener there returns.

    Returns a ``concurrent.futures.Future`` that can also be awaited. Its ``result(timeout)`` raises what the listener
    raised, LookupError when nobody listens, and TimeoutError. Raises EncodeError, and LookupError outside a child.
    """
    if _runtime is None:
        raise LookupError("ipc.emit() asks a parent, and this process is no child")
    if not isinstance(name, str) or not name:
        raise TypeError(f"an event's name is a non-empty string, not {name!r}")
    return _runtime.emit(name, args)


def on(name: str, handler: Handler | None = None) -> Any:
    """Call ``handler(*args)`` at each event of that name from the parent; ``*`` matches, as in ``job.*``.

    Handlers run on a thread of their own, one at a time and in order; a call that came after an event waits until that
    event was handled. Without a handler this is a decorator.
    """
    return _register(name, handler, once=False)


def once(name: str, handler: Handler | None = None) -> Any:
    """Like ``on``, for the next such event only."""
    return _register(name, handler, once=True)


def _register(name: str, handler: Handler | None, once: bool) -> Any:
    if handler is None:
        return lambda function: _register(name, function, once)
    if not callable(handler):
        raise TypeError(f"a handler is callable; {handler!r} is not")
    if _runtime is not None:
        _runtime.on(name, handler, once)
    return handler


def off(name: str | None = None, handler: Handler | None = None) -> None:
    """Remove that handler, all of that name, or, with no arguments, all."""
    if _runtime is not None:
        _runtime.off(name, handler)


def ready() -> None:
    """Say that this child takes calls (again); with ``ready="call"`` this is what makes the task ready."""
    if _runtime is not None:
        _runtime.available(True)


def busy() -> None:
    """Ask for no further calls until ``ready()``; those that are here are finished. After ``busy_timeout`` seconds, an
    option of the task, the child is replaced."""
    if _runtime is not None:
        _runtime.available(False)


def _arriving_stream(number: int, binary: bool) -> Any:
    """What stands in a child for a stream among the arguments of a call; part of what is sent. Raises LookupError
    elsewhere."""
    if _runtime is None:
        raise LookupError("a stream among the arguments of a call is for a child")
    return _runtime.open_stream(number, binary)


def drain() -> None:
    """Ask for another child in the place of this one: no more calls come, those that are here are finished, and then a
    fresh one takes over. Listeners in the parent hear a ``recycle`` event with the reason ``"drain"``."""
    if _runtime is not None:
        _runtime.go(False)


def end() -> None:
    """Ask to leave for good: no more calls come, those that are here are finished, and then this child is stopped, and
    its task with it. It has another child only when somebody starts it."""
    if _runtime is not None:
        _runtime.go(True)


def before_kill(function: Callable[[], Any]) -> Callable[[], Any]:
    """Call ``function()`` when this child is about to be killed, which SIGTERM says: it did not leave within
    ``kill_timeout``, or does not react; or somebody calls ``task.kill(signal.SIGTERM)``. Also a decorator.

    It runs in the main thread, in the middle of what that does, unless that is in C code which does not come back. If
    it takes longer than a quarter of a second, SIGKILL comes in between (than ``kill_timeout`` after
    ``task.kill(signal.SIGTERM)``). Of a SIGKILL, which ``task.kill()`` sends, there is no notice. Raises ValueError in
    another thread than the main one.
    """
    if not callable(function):
        raise TypeError(f"before_kill takes a function, not {function!r}")
    if _runtime is not None:
        _runtime.before_kill(function)
    return function


def request() -> Request:
    """The call that runs. Raises LookupError outside a call."""
    if _runtime is None:
        raise LookupError("ipc.request() is for a function that is called by a parent")
    return _runtime.request()


def requests() -> list[Request]:
    """The calls that this child has and has not answered; a copy."""
    return [] if _runtime is None else _runtime.all_requests()


def callback(function: Handler) -> Handler:
    """Decorator for a function that answers through a callback, its last positional argument ``done``.

    ``done(value)`` or ``done(error=exception)`` answers the call, from any thread, during the function or after it.
    """
    function.__dict__["relieve_callback"] = True
    return function


def __getattr__(name: str) -> Any:
    if name == "argv":
        return [] if _runtime is None else _runtime.argv
    if name == "name":
        return "" if _runtime is None else _runtime.name
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
