"""What happened, as frozen records, and the emitter that tells listeners of it.

Listeners never run on the thread that emits: each emitter has a strand, on which its listeners run one after the other,
and the strands share a few threads that come and go as needed. A listener that blocks holds up its own strand only.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from relieve_py import locks
from relieve_py.coroutines import bound_to_loop, finished
from relieve_py.patterns import matches

logger = logging.getLogger("relieve_py")

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


class Runner(Protocol):
    """Runs strands that have something queued."""

    def add(self, strand: Strand) -> None:
        """Have it run. Called when something is queued on an idle strand."""
        ...


class _Threads:
    """Runs strands on daemon threads: as many as there are strands with work, none while there is none."""

    LINGER = 2.0
    """Seconds an idle thread waits for more work. Less: threads are made more often; more: they stay longer."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start anew, as in a process that was just forked, where the threads of the parent do not exist."""
        self._lock = threading.Condition(locks.new())  # owner: whoever touches _ready or _idle
        self._ready: deque[Strand] = deque()
        self._idle = 0

    def add(self, strand: Strand) -> None:
        put_off = of_thread.put_off
        if put_off is not None:
            put_off.append(strand)
        else:
            self.begin(strand)

    def begin(self, strand: Strand) -> None:
        """Have it run now."""
        with self._lock:
            self._ready.append(strand)
            if self._idle >= len(self._ready):
                self._lock.notify()
                return
        try:
            threading.Thread(target=self._work, name="relieve-callbacks", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is exiting: one that runs, or help(), takes it later
            self.starved()

    def starved(self) -> None:
        """No thread could be started. The supervisor puts here what tries again."""

    def try_again(self) -> None:
        """Start a thread for what still waits."""
        with self._lock:
            waiting = bool(self._ready) and self._idle == 0
        if waiting:
            try:
                threading.Thread(target=self._work, name="relieve-callbacks", daemon=True).start()
            except RuntimeError:
                self.starved()

    def help(self, done: Callable[[], bool], timeout: float) -> None:
        """Run strands on this thread until ``done()``, for a process that exits and can start no thread any more."""
        deadline = time.monotonic() + timeout
        while not done():
            with self._lock:
                self._lock.wait_for(lambda: bool(self._ready) or done(), max(0.0, deadline - time.monotonic()))
                if not self._ready:
                    if time.monotonic() >= deadline:
                        return
                    continue
                strand = self._ready.popleft()
            strand.run()

    def nudge(self) -> None:
        """Have ``help`` look whether it is done."""
        with self._lock:
            self._lock.notify_all()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._ready:
                    self._idle += 1
                    self._lock.wait_for(lambda: bool(self._ready), self.LINGER)
                    self._idle -= 1
                    if not self._ready:
                        return
                strand = self._ready.popleft()
            strand.run()


class _OfThread(threading.local):
    """What strands that are made on this thread are run by."""

    runner: Runner | None = None
    """Instead of ``threads``; for ``testing``, where nothing runs by itself."""
    logs: Strand | None = None
    """Where ``log_later`` logs then."""
    put_off: deque[Strand] | None = None
    """Strands that have something to run once this thread has done what is more urgent: a callback would take the
    interpreter from it. None: they run at once."""
    strands: int = 0
    """That it runs at the moment: more than none in a callback."""


threads = _Threads()
of_thread = _OfThread()
_strands: weakref.WeakSet[Strand] = weakref.WeakSet()


class Strand:
    """A queue of callbacks that run one at a time, in order, on some thread."""

    def __init__(self) -> None:
        self._runner: Runner = of_thread.runner or threads
        self.reset()
        _strands.add(self)

    def reset(self) -> None:
        """Start anew, as in a process that was just forked: what was queued is the original's."""
        self._lock = locks.new()  # owner: whoever touches _queue or _scheduled
        self._queue: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._scheduled = False
        self._thread: int | None = None

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function(*args)`` after what was submitted before. What it raises is logged."""
        with self._lock:
            self._queue.append((function, args))
            if self._scheduled:
                return
            self._scheduled = True
        self._runner.add(self)

    @property
    def idle(self) -> bool:
        """True when nothing is queued and nothing runs."""
        return not self._scheduled

    @property
    def here(self) -> bool:
        """True on the thread that runs this strand at the moment: waiting for the strand there would never end."""
        return self._thread == threading.get_ident()

    def run(self) -> None:
        """Run what is queued until nothing is. Called by the threads only."""
        self._thread = threading.get_ident()
        of_thread.strands += 1
        try:
            self._run()
        finally:
            of_thread.strands -= 1

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._scheduled = False
                    self._thread = None
                    return
                function, args = self._queue.popleft()
            try:
                function(*args)
            except BaseException:
                logger.exception("a callback raised: %r", function)
            del function, args

    def run_one(self) -> bool:
        """Run the first that is queued; False when that was the last. Called by a runner that has one thread only."""
        function, args = self._queue.popleft()
        self._thread = threading.get_ident()
        of_thread.strands += 1
        try:
            function(*args)
        except BaseException:
            logger.exception("a callback raised: %r", function)
        of_thread.strands -= 1
        self._thread = None
        self._scheduled = bool(self._queue)
        return self._scheduled


def must_not_wait() -> bool:
    """True on a thread that others wait for: one that runs callbacks, or an event loop."""
    return of_thread.strands > 0 or under_a_loop()


def under_a_loop() -> bool:
    """True on a thread that runs an event loop, which must not be blocked."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _after_fork() -> None:
    threads.reset()
    for strand in list(_strands):
        strand.reset()


os.register_at_fork(after_in_child=_after_fork)


def guarded(function: Callable[..., Any], *args: Any) -> None:
    """Call it; what it raises is logged, and stops nobody else's work."""
    try:
        function(*args)
    except BaseException:
        logger.exception("a callback raised: %r", args[0] if function is _tell else function)


_logs = Strand()


def log_later(level: int, message: str, *args: Any) -> None:
    """Log from where no code of others may run: under a lock, or on the I/O thread."""
    (of_thread.logs or _logs).submit(logger.log, level, message, *args)


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


def _tell(listener: Listener, event: Event) -> Any:
    token = _current.set(event)
    try:
        return finished(listener(*event.args))
    finally:
        _current.reset(token)
