"""Strands: queues of callbacks, each of which runs one after the other, on a few threads that come and go as needed.

No callback of a user runs on the thread that has something to tell. One that blocks holds up its own strand only.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from relieve_py import locks
from relieve_py.log import logger


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
        self._lock = locks.Condition(locks.new())  # owner: whoever touches _ready or _idle
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
    of_thread.put_off = None  # this is the I/O thread no more
    threads.reset()
    for strand in list(_strands):
        strand.reset()


os.register_at_fork(after_in_child=_after_fork)


_logs = Strand()


def log_later(level: int, message: str, *args: Any) -> None:
    """Log from where no code of others may run: under a lock, or on the I/O thread."""
    (of_thread.logs or _logs).submit(logger.log, level, message, *args)
