"""Events from the parent: the handlers of ``ipc.on``, which run on one thread of their own, in order."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from relieve_py.child.process import leave_signals, print_error, take_signals
from relieve_py.patterns import matches

KEEP = 1000
"""Events kept for a handler that a program has yet to register; older ones are given up beyond that."""

AHEAD = 1000
"""Events that may wait for their handlers before the parent is no longer told of each at once that it has arrived, and
so holds back. More: more memory of a child whose handlers are slow; less: who sends in bursts waits."""


class Handlers:
    """Who listens, and what waits to be handled."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())  # owner: whoever touches the fields below
        self._handlers: list[tuple[str, Callable[..., Any], bool]] = []
        self._queue: deque[Callable[[], tuple[str, list[Any]]]] = deque()
        self._unheard: deque[tuple[str, list[Any]]] = deque(maxlen=KEEP)
        self._thread: threading.Thread | None = None
        self._queued = 0
        self._handled = 0
        self._runner: Any = None
        self.keeping = False  # while a program runs that may yet register handlers

    @property
    def any(self) -> bool:
        """True when a handler is registered."""
        return bool(self._handlers)

    def add(self, name: str, handler: Callable[..., Any], once: bool) -> None:
        """Register; events that waited for such a handler are handled now."""
        with self._changed:
            self._handlers = [*self._handlers, (name, handler, once)]
            waited, self._unheard = self._unheard, deque(maxlen=KEEP)
            for event in reversed(waited):
                self._queue.appendleft(functools.partial(_as_it_is, event))
            self._queued += len(waited)
            if waited:
                self._wake_thread()

    def remove(self, name: str | None, handler: Callable[..., Any] | None) -> None:
        """Remove that handler, all of that name, or all."""
        with self._changed:
            self._handlers = [
                entry
                for entry in self._handlers
                if (name is not None and entry[0] != name) or (handler is not None and entry[1] != handler)
            ]

    def put(self, event: Callable[[], tuple[str, list[Any]]], arrived: Callable[[], object]) -> None:
        """Handle an event later; ``event()`` decodes it there. ``arrived()`` is called now, or, while many events
        wait, just before it is handled."""
        if len(self._queue) < AHEAD:
            arrived()  # first: the handler may make this child leave
        else:
            event = functools.partial(_arrived_late, arrived, event)
        with self._changed:
            self._queue.append(event)
            self._queued += 1
            self._wake_thread()

    def _wake_thread(self) -> None:
        """Under the lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="relieve-events", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    @property
    def unsettled(self) -> bool:
        """True while an event waits to be handled, or is."""
        return self._handled < self._queued

    def settle(self) -> None:
        """Wait until the events that came before now are handled, unless this is the thread that handles them."""
        target = self._queued
        if self._handled >= target or threading.current_thread() is self._thread:
            return
        with self._changed:
            self._changed.wait_for(lambda: self._handled >= target)

    def _work(self) -> None:
        leave_signals()  # while it waits, they are the main thread's, which may hold them
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._queue))
                event = self._queue.popleft()
            take_signals()  # a process that a handler starts has the mask of its thread
            try:
                self._handle(*event())
            except BaseException as error:
                print_error(error)
            finally:
                leave_signals()
                with self._changed:
                    self._handled += 1
                    self._changed.notify_all()

    def _handle(self, name: str, args: list[Any]) -> None:
        with self._changed:
            heard = [entry for entry in self._handlers if matches(entry[0], name)]
            if not heard and self.keeping:
                self._unheard.append((name, args))
            self._handlers = [entry for entry in self._handlers if not (entry[2] and entry in heard)]
        for _, handler, _ in heard:
            try:
                result = handler(*args)
                if hasattr(result, "__await__"):
                    self._await(result)
            except BaseException as error:
                print_error(error)

    def _await(self, awaitable: Any) -> None:
        import asyncio

        async def wait() -> None:
            await awaitable

        if self._runner is None:
            self._runner = asyncio.Runner()
        self._runner.run(wait())


def _arrived_late(arrived: Callable[[], object], event: Callable[[], tuple[str, list[Any]]]) -> tuple[str, list[Any]]:
    arrived()
    return event()


def _as_it_is(event: tuple[str, list[Any]]) -> tuple[str, list[Any]]:
    return event
