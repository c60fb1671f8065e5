"""The one thread of the command: it waits for input, children's output, settled replies and signals, in one place."""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

CHUNK = 65536
"""Bytes read at a time. Less: more system calls; more: more lines in memory that are not wanted yet."""

if sys.platform == "darwin":
    _Selector: type[selectors.BaseSelector] = selectors.SelectSelector  # the others refuse terminals there
else:
    _Selector = selectors.PollSelector  # epoll refuses ordinary files


class Loop:
    """Runs what is posted, from any thread or signal handler, and what waits for a descriptor."""

    def __init__(self) -> None:
        self._selector = _Selector()
        self._posted: queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        self.ticker: Callable[[], object] | None = None

    @property
    def alarm(self) -> int:
        """A descriptor: a byte that is written to it wakes the loop."""
        return self._wake_write

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Have it called by the loop. A signal handler may do this: neither the queue nor the pipe takes a lock."""
        self._posted.put((function, args))
        with contextlib.suppress(BlockingIOError):  # full: the loop will wake up anyway
            os.write(self._wake_write, b"\0")

    def watch(self, fd: int, function: Callable[[], object]) -> None:
        """Call ``function`` whenever the descriptor can be read."""
        if fd not in self._selector.get_map():
            self._selector.register(fd, selectors.EVENT_READ, function)

    def unwatch(self, fd: int) -> None:
        """Watch it no more."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def run(self, done: Callable[[], bool], tick: float | None = None) -> None:
        """Run until ``done()``; with ``tick`` (seconds) the ticker is called about that often."""
        due = time.monotonic() + (tick or 0.0)
        while not done():
            self._turn(None if tick is None else max(0.0, due - time.monotonic()))
            if tick is not None and time.monotonic() >= due:
                due = time.monotonic() + tick
                if self.ticker is not None:
                    self.ticker()

    def _turn(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            key.data()

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, CHUNK)
        for _ in range(self._posted.qsize()):  # what is posted meanwhile wakes the loop again
            function, args = self._posted.get()
            function(*args)

    def close(self) -> None:
        """Give the descriptors back. The wake-up pipe stays: a thread of the library may be about to post."""
        self._selector.close()


class AtOnce(BaseException):
    """Raised in the main thread by the second signal: nothing is waited for any more."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.status = 128 + signum


class Signals:
    """The first SIGINT or SIGTERM asks for a graceful end, the second one ends at once."""

    def __init__(self, loop: Loop, asked: Callable[[], object]) -> None:
        self._loop = loop
        self._asked = asked
        self._before: dict[int, Any] = {}
        self._alarm_before = -1
        self.signum: int | None = None

    @property
    def status(self) -> int | None:
        """The exit status that shells give to a program ended by that signal; None if there was none."""
        return None if self.signum is None else 128 + self.signum

    def __enter__(self) -> Self:
        for signum in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(signum) is not signal.SIG_IGN:  # who started us wants it ignored, as nohup does
                self._before[signum] = signal.signal(signum, self._handle)
        # The system may give a signal to any thread: the handler runs in this one, which has to be woken for it.
        self._alarm_before = signal.set_wakeup_fd(self._loop.alarm, warn_on_full_buffer=False)
        return self

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise AtOnce(signum)
        self.signum = signum
        self._loop.post(self._asked)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._alarm_before)
        for signum, handler in self._before.items():
            # After AtOnce a third signal ends the process without further ado.
            signal.signal(signum, signal.SIG_DFL if kind is AtOnce else handler)
