"""What happened, as frozen records, and the emitter that tells listeners of it.

Listeners never run on the thread that emits: each emitter has a strand, on which its listeners run one after the other.
"""

from __future__ import annotations

import contextvars
import weakref
from collections.abc import Callable
from typing import Any

import attrs

from relieve_py import locks
from relieve_py.coroutines import bound_to_loop, finished
from relieve_py.log import logger
from relieve_py.patterns import matches
from relieve_py.strands import Strand

Listener = Callable[..., Any]

LIFECYCLE = frozenset(
    {
        "start",
        "ready",
        "exit",
        "restart",
        "error",
        "state",
        "drop",
        "failed",
        "stop",
        "add",
        "remove",
        "drain",
        "deliver",
        "recycle",
        "idle",
        "available",
        "unavailable",
        "reload",
    }
)
"""Names of lifecycle events, which user events may not have."""
HOOKS = ("start", "ready", "exit", "restart", "error")
"""Those of them for which tasks and workers have a method ``on_NAME``."""


@attrs.frozen(kw_only=True)
class Event:
    """An event as a listener finds it with ``current_event()``."""

    name: str
    """The event's name."""
    source: Any
    """The task or worker whose listener runs."""
    args: tuple[Any, ...]
    """The event's arguments."""


@attrs.frozen(kw_only=True)
class Started:
    """``start``: a child was launched."""

    task: str
    pid: int
    restarts: int
    """How many children this task had before."""


@attrs.frozen(kw_only=True)
class Ready:
    """``ready``: the child's ``start()`` is done and it serves calls."""

    task: str
    pid: int
    exports: tuple[str, ...]
    """The names that the child exports."""
    took: float
    """Seconds from launch to ready."""


@attrs.frozen(kw_only=True)
class Restarting:
    """``restart``: another child will be launched in this task's slot."""

    task: str
    restarts: int
    """How many restarts there were with this one."""
    delay: float
    """Seconds until the launch."""


@attrs.frozen(kw_only=True)
class Recycled:
    """``recycle``: a child that runs no call is replaced by a fresh one, as the task's RecyclePolicy says, because it
    asked for that, or because it asked for no calls for too long."""

    task: str
    pid: int | None
    reason: str
    """``"calls"``, ``"age"`` or ``"rss"``; ``"drain"``: it asked for it; ``"busy"``: after ``busy_timeout``."""
    uptime: float
    """Seconds since its launch."""


@attrs.frozen(kw_only=True)
class Idle:
    """``idle``: a child that had nothing to do is let go, as the task's RecyclePolicy says; the next call starts
    another."""

    task: str
    pid: int | None
    seconds: float
    """How long it has been idle."""


@attrs.frozen(kw_only=True)
class StateChanged:
    """``state``: the task moved from one state to another."""

    task: str
    before: Any
    after: Any


@attrs.frozen(kw_only=True)
class Failed:
    """``error``: a called function raised, the child could not start, or the restart budget is spent."""

    task: str
    method: str | None
    """The function that raised; None when it was no call."""
    error: BaseException


@attrs.frozen(kw_only=True)
class Dropped:
    """``drop``: a worker gave up a queued call for want of room."""

    worker: str
    call_id: int
    method: str | None
    call: Any
    """The PendingCall: what it was, with its arguments."""


@attrs.frozen(kw_only=True)
class Drained:
    """``drain``: the worker's queue was full, and half of it is free now; who held back may go on."""

    worker: str


@attrs.frozen(kw_only=True)
class Reloaded:
    """``reload``: files that a worker watches have changed, and its tasks have been reloaded."""

    worker: str
    paths: tuple[str, ...]
    """The files."""
    error: BaseException | None
    """Why a task was not: it keeps its old child, and those after it do, too. None: all were."""


@attrs.frozen(kw_only=True)
class Unavailable:
    """``unavailable``: a call has to wait in the worker's queue, for no task can take one. Told once, until
    ``available``."""

    worker: str
    reason: str
    """``"busy"``: every child has all the calls that it takes; ``"paused"``: after ``pause()``; ``"down"``: no child is
    ready."""


@attrs.frozen(kw_only=True)
class Available:
    """``available``: after ``unavailable``, no call waits any more, and a task can take the next."""

    worker: str
    after: float
    """Seconds since it was told that there was none."""


_current: contextvars.ContextVar[Event] = contextvars.ContextVar("relieve_py.event")


def current_event() -> Event:
    """The event that the running listener was called for. Raises LookupError outside a listener."""
    return _current.get()


class Emitter:
    """Named events and their listeners. A name with ``*`` listens to every event it matches, as in ``job.*``."""

    def __init__(self, source: Any = None) -> None:
        self._source = weakref.ref(source) if source is not None else lambda: None  # it keeps this
        self.strand = Strand()
        self._lock = locks.new()  # owner: whoever touches _listeners
        self._listeners: list[tuple[str, Listener, bool]] = []

    def on(self, name: str, listener: Listener) -> Listener:
        """Call ``listener(*args)`` at each event of that name. Returns the listener, so that it can be a decorator."""
        self._add(name, listener, once=False)
        return listener

    def once(self, name: str, listener: Listener) -> Listener:
        """Like ``on``, for the next such event only."""
        self._add(name, listener, once=True)
        return listener

    def _add(self, name: str, listener: Listener, once: bool) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"an event's name is a non-empty string, not {name!r}")
        if not callable(listener):
            raise TypeError(f"a listener is callable; {listener!r} is not")
        locks.refuse_if_mine(self._lock)
        listener = bound_to_loop(listener)
        with self._lock:
            self._listeners = [*self._listeners, (name, listener, once)]

    def off(self, name: str | None = None, listener: Listener | None = None) -> None:
        """Remove listeners: that one, all of that name, or, with no arguments, all."""
        locks.refuse_if_mine(self._lock)
        with self._lock:
            self._listeners = [
                entry
                for entry in self._listeners
                if (name is not None and entry[0] != name) or (listener is not None and entry[1] != listener)
            ]

    def copy_listeners(self, other: Emitter) -> None:
        """Have the listeners of ``other`` too."""
        with self._lock:
            self._listeners = [*self._listeners, *other._listeners]

    def listening(self, name: str) -> bool:
        """True when somebody listens to events of that name."""
        return any(matches(pattern, name) for pattern, _, _ in self._listeners)

    def emit(self, name: str, *args: Any) -> bool:
        """Tell every listener of ``name``, on the strand: later, or now if this is it. True when there was one."""
        return self.relay(self._source(), name, args)

    def relay(self, source: Any, name: str, args: tuple[Any, ...]) -> bool:
        """Like ``emit``, for an event of somebody else."""
        if not self._listeners:
            return False
        with self._lock:
            heard = [entry for entry in self._listeners if matches(entry[0], name)]
            if any(once for _, _, once in heard):
                self._listeners = [e for e in self._listeners if not (e[2] and e in heard)]
        event = Event(name=name, source=source, args=args)
        for _, listener, _ in heard:
            if self.strand.here:
                guarded(_tell, listener, event)
            else:
                self.strand.submit(_tell, listener, event)
        return bool(heard)

    def ask(
        self, source: Any, name: str, args: tuple[Any, ...], give: Callable[[Any, BaseException | None], object]
    ) -> None:
        """On the strand: have the listeners of ``name`` run; ``give`` is told what the first returned or raised."""
        with self._lock:
            heard = [entry for entry in self._listeners if matches(entry[0], name)]
            self._listeners = [entry for entry in self._listeners if not (entry[2] and entry in heard)]
        event = Event(name=name, source=source, args=args)
        for place, (_, listener, _) in enumerate(heard):
            try:
                value = _tell(listener, event)
            except BaseException as error:  # the child is told; of the others, the log
                if place == 0:
                    give(None, error)
                else:
                    logger.exception("a listener raised: %r", listener)
            else:
                if place == 0:
                    give(value, None)
        if not heard:
            give(None, LookupError(f"nobody listens to {name!r} in the parent"))


def guarded(function: Callable[..., Any], *args: Any) -> None:
    """Call it; what it raises is logged, and stops nobody else's work."""
    try:
        function(*args)
    except BaseException:
        logger.exception("a callback raised: %r", args[0] if function is _tell else function)


def _tell(listener: Listener, event: Event) -> Any:
    token = _current.set(event)
    try:
        return finished(listener(*event.args))
    finally:
        _current.reset(token)
